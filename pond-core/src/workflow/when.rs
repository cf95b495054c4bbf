//! The condition under which a stage runs: `when`. Lexer, parser and evaluation are total: any text either reads within its
//! bounds or is a fault with its place, and whatever reads has a value.
//!
//! ```text
//! any     = all { "||" all }                     binds loosest
//! all     = compared { "&&" compared }
//! compared = not [ ("==" | "!=") not ]
//! not     = "!" not | primary
//! primary = "(" any ")" | literal | "stages." KEY ".status" | "context." PATH
//!         | "artifact('" NAME "')" | "success()" | "failure()" | "always()"
//! ```
//!
//! Literals are `null`, `true`, `false`, numbers, and strings in single or double quotes, in which a backslash keeps the
//! character after it. Values are equal when their kinds and contents are; of values that are no truth values, null, 0 and
//! the empty string count as false.

use serde_json::Value;

use crate::artifacts::ArtifactName;

/// Characters an expression may have.
const MAX_CHARS: usize = 1000;
/// Parentheses and negations within each other.
const MAX_DEPTH: usize = 64;

/// A condition that reads.
#[derive(Debug, Clone, PartialEq)]
pub struct When {
    expression: Expression,
}

/// Why a text is no condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} at character {at}")]
pub struct WhenFault {
    /// Number of the character, from 1.
    pub at: usize,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// What a condition is asked of.
pub trait Facts {
    /// Whether a stage before this one failed.
    fn failed_before(&self) -> bool;

    /// How the stage with this key ended; none when it has not, or is not there.
    fn status(&self, key: &str) -> Option<&'static str>;

    /// What the run's context has at this path; null when nothing.
    fn context(&self, path: &[String]) -> Value;

    /// Whether a stage before this one left an artifact of this name.
    fn artifact(&self, name: &ArtifactName) -> bool;
}

#[derive(Debug, Clone, PartialEq)]
enum Expression {
    Any(Vec<Self>),
    All(Vec<Self>),
    Not(Box<Self>),
    Compared(Box<Self>, Equality, Box<Self>),
    Literal(Value),
    Status(String),
    Context(Vec<String>),
    Artifact(ArtifactName),
    Check(Check),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Equality {
    Equal,
    Unequal,
}

/// The three functions of which one, named anywhere, replaces the default `success()`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Success,
    Failure,
    Always,
}

impl When {
    /// Reads an expression.
    ///
    /// # Errors
    /// With the place of the first fault.
    pub fn parse(text: &str) -> Result<Self, WhenFault> {
        if text.chars().count() > MAX_CHARS {
            let message = format!("longer than {MAX_CHARS} characters");
            return Err(WhenFault { at: MAX_CHARS, message });
        }
        let mut parser = Parser {
            tokens: lex(text)?,
            next: 0,
            end: text.chars().count() + 1,
        };
        let expression = parser.any(0)?;
        match parser.peek() {
            None => Ok(Self { expression }),
            Some(_) => Err(parser.fault("expected an operator or the end")),
        }
    }

    /// Whether the stage runs: without `success()`, `failure()` or `always()` in it, only after success.
    pub fn holds(&self, facts: &dyn Facts) -> bool {
        let asked = self.any(&|expression| matches!(expression, Expression::Check(_)));
        (asked || !facts.failed_before()) && is_true(&self.expression.value(facts))
    }

    /// Keys of the stages that it names.
    pub fn stages(&self) -> Vec<&str> {
        let mut keys = Vec::new();
        self.expression.visit(&mut |expression| {
            if let Expression::Status(key) = expression {
                keys.push(key.as_str());
            }
        });
        keys
    }

    /// Whether it asks for artifacts.
    pub fn asks_for_artifacts(&self) -> bool {
        self.any(&|expression| matches!(expression, Expression::Artifact(_)))
    }

    fn any(&self, is: &dyn Fn(&Expression) -> bool) -> bool {
        let mut found = false;
        self.expression.visit(&mut |expression| found |= is(expression));
        found
    }
}

impl Expression {
    fn value(&self, facts: &dyn Facts) -> Value {
        match self {
            Self::Any(parts) => parts.iter().any(|part| is_true(&part.value(facts))).into(),
            Self::All(parts) => parts.iter().all(|part| is_true(&part.value(facts))).into(),
            Self::Not(part) => (!is_true(&part.value(facts))).into(),
            Self::Compared(left, equality, right) => {
                let equal = are_equal(&left.value(facts), &right.value(facts));
                (equal == (*equality == Equality::Equal)).into()
            }
            Self::Literal(value) => value.clone(),
            Self::Status(key) => facts.status(key).into(),
            Self::Context(path) => facts.context(path),
            Self::Artifact(name) => facts.artifact(name).into(),
            Self::Check(Check::Always) => true.into(),
            Self::Check(Check::Failure) => facts.failed_before().into(),
            Self::Check(Check::Success) => (!facts.failed_before()).into(),
        }
    }

    fn visit<'a>(&'a self, see: &mut dyn FnMut(&'a Self)) {
        see(self);
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().for_each(|part| part.visit(see)),
            Self::Not(part) => part.visit(see),
            Self::Compared(left, _, right) => {
                left.visit(see);
                right.visit(see);
            }
            Self::Literal(_) | Self::Status(_) | Self::Context(_) | Self::Artifact(_) | Self::Check(_) => {}
        }
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(truth) => *truth,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(_) | Value::Object(_) => true,
    }
}

/// `1` and `1.0` are the same number, whichever way they were written.
fn are_equal(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        _ => one == other,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Or,
    And,
    Not,
    Equal,
    Unequal,
    Open,
    Close,
    Dot,
    Word(String),
    Text(String),
}

/// The tokens, each with the number of its first character.
fn lex(text: &str) -> Result<Vec<(usize, Token)>, WhenFault> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().enumerate().peekable();
    while let Some((place, first)) = rest.next() {
        let at = place + 1;
        let mut twice = |second: char, token: Token| match rest.next_if(|(_, next)| *next == second) {
            Some(_) => Ok(token),
            None => Err(WhenFault {
                at,
                message: format!("expected '{first}{second}'"),
            }),
        };
        let token = match first {
            ' ' | '\t' | '\n' | '\r' => continue,
            '|' => twice('|', Token::Or)?,
            '&' => twice('&', Token::And)?,
            '=' => twice('=', Token::Equal)?,
            '!' => twice('=', Token::Unequal).unwrap_or(Token::Not),
            '(' => Token::Open,
            ')' => Token::Close,
            '.' => Token::Dot,
            quote @ ('\'' | '"') => Token::Text(quoted(&mut rest, quote, at)?),
            letter if is_word(letter) => {
                let mut word = String::from(letter);
                while let Some((_, letter)) = rest.next_if(|(_, next)| is_word(*next)) {
                    word.push(letter);
                }
                Token::Word(word)
            }
            other => {
                return Err(WhenFault {
                    at,
                    message: format!("unexpected {other:?}"),
                });
            }
        };
        tokens.push((at, token));
    }
    Ok(tokens)
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == '-'
}

fn quoted(rest: &mut impl Iterator<Item = (usize, char)>, quote: char, at: usize) -> Result<String, WhenFault> {
    let mut text = String::new();
    let mut next = || rest.next().map(|(_, letter)| letter);
    loop {
        match next() {
            Some('\\') => text.extend(next()),
            Some(letter) if letter == quote => return Ok(text),
            Some(letter) => text.push(letter),
            None => {
                return Err(WhenFault {
                    at,
                    message: format!("the string has no closing {quote}"),
                });
            }
        }
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    /// Where the text ends.
    end: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn take(&mut self, token: &Token) -> bool {
        let there = self.peek() == Some(token);
        self.next += usize::from(there);
        there
    }

    fn word(&mut self) -> Option<String> {
        let Some(Token::Word(word)) = self.peek() else {
            return None;
        };
        let word = word.clone();
        self.next += 1;
        Some(word)
    }

    fn fault(&self, message: impl Into<String>) -> WhenFault {
        WhenFault {
            at: self.tokens.get(self.next).map_or(self.end, |(at, _)| *at),
            message: message.into(),
        }
    }

    fn expect(&mut self, token: &Token, message: &str) -> Result<(), WhenFault> {
        if self.take(token) {
            Ok(())
        } else {
            Err(self.fault(message))
        }
    }

    fn any(&mut self, depth: usize) -> Result<Expression, WhenFault> {
        let mut parts = vec![self.all(depth)?];
        while self.take(&Token::Or) {
            parts.push(self.all(depth)?);
        }
        Ok(single_or(parts, Expression::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Expression, WhenFault> {
        let mut parts = vec![self.compared(depth)?];
        while self.take(&Token::And) {
            parts.push(self.compared(depth)?);
        }
        Ok(single_or(parts, Expression::All))
    }

    fn compared(&mut self, depth: usize) -> Result<Expression, WhenFault> {
        let left = self.not(depth)?;
        let equality = if self.take(&Token::Equal) {
            Equality::Equal
        } else if self.take(&Token::Unequal) {
            Equality::Unequal
        } else {
            return Ok(left);
        };
        let right = self.not(depth)?;
        Ok(Expression::Compared(Box::new(left), equality, Box::new(right)))
    }

    fn not(&mut self, depth: usize) -> Result<Expression, WhenFault> {
        if depth >= MAX_DEPTH {
            return Err(self.fault(format!("nested deeper than {MAX_DEPTH}")));
        }
        if self.take(&Token::Not) {
            return Ok(Expression::Not(Box::new(self.not(depth + 1)?)));
        }
        if self.take(&Token::Open) {
            let inner = self.any(depth + 1)?;
            self.expect(&Token::Close, "expected ')'")?;
            return Ok(inner);
        }
        if let Some(Token::Text(text)) = self.peek() {
            let literal = Expression::Literal(text.clone().into());
            self.next += 1;
            return Ok(literal);
        }
        self.named()
    }

    fn named(&mut self) -> Result<Expression, WhenFault> {
        let start = self.next;
        let Some(word) = self.word() else {
            return Err(self.fault("expected a value, a function, '!' or '('"));
        };
        match word.as_str() {
            "null" => Ok(Expression::Literal(Value::Null)),
            "true" => Ok(Expression::Literal(true.into())),
            "false" => Ok(Expression::Literal(false.into())),
            "success" => self.check(Check::Success),
            "failure" => self.check(Check::Failure),
            "always" => self.check(Check::Always),
            "stages" => self.status(),
            "context" => Ok(Expression::Context(self.path()?)),
            "artifact" => self.artifact(),
            digits => match self.number(digits) {
                Some(number) => Ok(Expression::Literal(number)),
                None => {
                    self.next = start;
                    Err(self.fault(format!(
                        "'{word}' is nothing here; known are stages.KEY.status, context.PATH, artifact('NAME'), \
                         success(), failure(), always(), strings, numbers, true, false and null"
                    )))
                }
            },
        }
    }

    fn check(&mut self, check: Check) -> Result<Expression, WhenFault> {
        self.expect(&Token::Open, "expected '()'")?;
        self.expect(&Token::Close, "expected ')'")?;
        Ok(Expression::Check(check))
    }

    fn status(&mut self) -> Result<Expression, WhenFault> {
        let message = "expected stages.KEY.status";
        match &self.path()?[..] {
            [key, field] if field == "status" => Ok(Expression::Status(key.clone())),
            _ => Err(self.fault(message)),
        }
    }

    fn path(&mut self) -> Result<Vec<String>, WhenFault> {
        let mut path = Vec::new();
        while self.take(&Token::Dot) {
            let part = self.word();
            path.push(part.ok_or_else(|| self.fault("expected a name after '.'"))?);
        }
        if path.is_empty() {
            return Err(self.fault("expected '.' and a name"));
        }
        Ok(path)
    }

    fn artifact(&mut self) -> Result<Expression, WhenFault> {
        self.expect(&Token::Open, "expected ('NAME')")?;
        let name = match self.peek() {
            Some(Token::Text(text)) => ArtifactName::new(text.clone()).map_err(|bad| self.fault(bad.to_string()))?,
            _ => return Err(self.fault("expected the artifact's name in quotes")),
        };
        self.next += 1;
        self.expect(&Token::Close, "expected ')'")?;
        Ok(Expression::Artifact(name))
    }

    /// A whole number, or with the digits after a dot a fraction.
    fn number(&mut self, word: &str) -> Option<Value> {
        let digits = word.strip_prefix('-').unwrap_or(word);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        if !self.take(&Token::Dot) {
            return word.parse::<i64>().ok().map(Value::from);
        }
        let part = self.word()?;
        let fits = part.bytes().all(|b| b.is_ascii_digit());
        let number = format!("{word}.{part}").parse::<f64>().ok().filter(|_| fits)?;
        serde_json::Number::from_f64(number).map(Value::Number)
    }
}

fn single_or(mut parts: Vec<Expression>, several: impl FnOnce(Vec<Expression>) -> Expression) -> Expression {
    match parts.len() {
        1 => parts.swap_remove(0),
        _ => several(parts),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    struct Known {
        failed: bool,
    }

    impl Facts for Known {
        fn failed_before(&self) -> bool {
            self.failed
        }

        fn status(&self, key: &str) -> Option<&'static str> {
            match key {
                "a" => Some("done"),
                "b-1" => Some("failed"),
                _ => None,
            }
        }

        fn context(&self, path: &[String]) -> Value {
            let context =
                json!({"deploy": true, "n": 2, "name": "x", "list": [1, {"k": "v"}], "none": null, "zero": 0});
            crate::workflow::at_path(&context, path).cloned().unwrap_or_default()
        }

        fn artifact(&self, name: &ArtifactName) -> bool {
            name.as_str() == "map.json"
        }
    }

    fn holds(text: &str, failed: bool) -> bool {
        When::parse(text).unwrap().holds(&Known { failed })
    }

    #[test]
    fn c17_12_expressions_have_the_value_that_the_grammar_gives_them() {
        let table = [
            ("success()", true, false),
            ("failure()", false, true),
            ("always()", true, true),
            ("true", true, false),
            ("false", false, false),
            ("!true", false, false),
            ("!false", true, false),
            ("true || false && false", true, false),
            ("(true || false) && false", false, false),
            ("false || success() && true", true, false),
            ("always() && false", false, false),
            ("stages.a.status == 'done'", true, false),
            ("stages.a.status == \"done\" && always()", true, true),
            ("stages.b-1.status != 'failed'", false, false),
            ("stages.gone.status == null", true, false),
            ("context.deploy", true, false),
            ("context.n == 2.0 && context.n == 2", true, false),
            ("context.n == '2'", false, false),
            ("context.name", true, false),
            ("context.none", false, false),
            ("context.zero", false, false),
            ("context.gone.deeper == null", true, false),
            ("context.list.1.k == 'v'", true, false),
            ("context.list", true, false),
            ("artifact('map.json')", true, false),
            ("artifact('other') || failure()", false, true),
            ("!failure() && !(context.n == -2)", true, false),
            ("'it\\'s' == \"it's\"", true, false),
            ("!!!false == true", true, false),
        ];
        for (text, after_success, after_failure) in table {
            assert_eq!(holds(text, false), after_success, "{text} after success");
            assert_eq!(holds(text, true), after_failure, "{text} after a failure");
        }
    }

    #[test]
    fn c17_12_what_is_no_expression_is_told_with_its_place() {
        let deep = "(".repeat(100) + "true" + &")".repeat(100);
        let table = [
            ("", 1),
            ("  ", 3),
            ("true &", 6),
            ("true & false", 6),
            ("true && ", 9),
            ("success", 8),
            ("success(1)", 9),
            ("stages.a", 9),
            ("stages.a.state", 15),
            ("stages.a.status.x", 18),
            ("context", 8),
            ("context.", 9),
            ("artifact('../x')", 10),
            ("artifact(x)", 10),
            ("'open", 1),
            ("true false", 6),
            ("a == b", 1),
            ("1.x == 1", 1),
            ("a ? b", 3),
            ("true == true == true", 14),
            ("99999999999999999999", 1),
            (&deep, 65),
        ];
        for (text, at) in table {
            let fault = When::parse(text).unwrap_err();
            assert_eq!(fault.at, at, "{text}: {fault}");
        }
        assert!(When::parse(&" ".repeat(1001)).is_err());
        assert!(When::parse(&format!("true{}", " ".repeat(996))).is_ok());
    }

    #[test]
    fn it_says_which_stages_it_names_and_whether_it_asks_for_artifacts() {
        let when = When::parse("stages.a.status == 'done' || !(stages.b.status == null)").unwrap();
        assert_eq!(when.stages(), ["a", "b"]);
        assert!(!when.asks_for_artifacts());
        assert!(When::parse("!artifact('x')").unwrap().asks_for_artifacts());
    }

    proptest! {
        #[test]
        fn c17_12_any_text_reads_or_is_a_fault_within_it(text in ".{0,80}") {
            if let Err(fault) = When::parse(&text) {
                prop_assert!((1..=text.chars().count() + 1).contains(&fault.at));
            }
        }

        /// Texts made of the language's own pieces get far into the parser.
        #[test]
        fn c17_12_any_row_of_tokens_reads_or_is_a_fault(pieces in prop::collection::vec(0usize..18, 0..40), failed: bool) {
            const PIECES: [&str; 18] = ["||", "&&", "!", "(", ")", "==", "!=", "true", "null", "1", ".5", "'x'",
                "stages.a.status", "context.n", "artifact('x')", "success()", "failure()", "always()"];
            let text: Vec<&str> = pieces.into_iter().map(|piece| PIECES[piece]).collect();
            if let Ok(when) = When::parse(&text.join(" ")) {
                let _either = when.holds(&Known { failed });
                let _keys = when.stages();
            }
        }
    }
}

//! Fills the placeholders of a harness's templates. One pass: inserted text is never looked at again.

use crate::config::{Placeholder, placeholders};

/// What placeholders become.
#[derive(Clone, Copy)]
pub struct Rendering<'a> {
    /// The provider's name of the model; empty without one.
    pub model: &'a str,
    /// The prompt.
    pub prompt: &'a str,
    /// Origin of the broker inside the sandbox; empty without one.
    pub broker_url: &'a str,
    /// What a named secret becomes, if it may be rendered.
    pub secret: &'a dyn Fn(&str) -> Option<String>,
}

/// The rendered text, and whether the prompt is in it; or the name of the placeholder that cannot be filled.
///
/// # Errors
/// The placeholder's name.
pub fn render(template: &str, with: Rendering<'_>) -> Result<(String, bool), String> {
    let (mut text, mut at, mut prompted) = (String::with_capacity(template.len()), 0, false);
    for (place, placeholder) in placeholders(template) {
        text.push_str(&template[at..place.start]);
        match placeholder {
            Placeholder::Model => text.push_str(with.model),
            Placeholder::BrokerUrl => text.push_str(with.broker_url),
            Placeholder::Prompt => {
                prompted = true;
                text.push_str(with.prompt);
            }
            Placeholder::Secret(name) => text.push_str(&(with.secret)(&name).ok_or(format!("SECRET:{name}"))?),
            Placeholder::Unknown(name) => return Err(name),
        }
        at = place.end;
    }
    text.push_str(&template[at..]);
    Ok((text, prompted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c17_28_inserted_text_is_not_expanded_again() {
        let secret = |name: &str| (name == "A").then(|| "value".to_owned());
        let with = Rendering {
            model: "{{PROMPT}}",
            prompt: "{{SECRET:A}}",
            broker_url: "http://b",
            secret: &secret,
        };
        assert_eq!(
            render("{{MODEL}} {prompt} {{x}}", with),
            Ok(("{{PROMPT}} {{SECRET:A}} {{x}}".into(), true))
        );
        assert_eq!(
            render("{{SECRET:A}}{{BROKER_URL}}", with),
            Ok(("valuehttp://b".into(), false))
        );
        assert_eq!(render("{{SECRET:B}}", with), Err("SECRET:B".into()));
    }
}

//! A script's tool calls in terms of the tools that a client has: scripts are written with the tools of `mini`, and any
//! client with a shell of its own can play them.

use serde_json::{Map, Value, json};

use super::script::{ToolUse, Turn};

/// What is in the name of a tool that runs commands.
const SHELLS: [&str; 4] = ["shell", "bash", "exec", "terminal"];
/// What such a tool calls the command.
const COMMANDS: [&str; 2] = ["command", "cmd"];

/// A tool that a request offers.
struct Offered<'a> {
    name: &'a str,
    schema: &'a Value,
}

/// The turn with each call that the client has no tool for made a call of its shell. Where it has no shell, or offers no
/// tool at all, the call stays: what a client does with a tool that it does not know is its own business.
pub(super) fn fitted(turn: &Turn, body: &Value) -> Turn {
    let offered = offered(body);
    let shell = offered.iter().find_map(|tool| Some((tool, tool.command_key()?)));
    let fit = |call: &ToolUse| {
        let known = offered.iter().any(|tool| tool.name == call.name);
        match (shell, command(call)) {
            (Some((shell, key)), Some(command)) if !known => shell.call(key, &command),
            _ => call.clone(),
        }
    };
    Turn {
        tools: turn.tools.iter().map(fit).collect(),
        ..turn.clone()
    }
}

/// Each wire lists its tools in its own way.
fn offered(body: &Value) -> Vec<Offered<'_>> {
    let tools = body["tools"].as_array().map_or(&[][..], Vec::as_slice);
    let flat = tools.iter().flat_map(|tool| match &tool["functionDeclarations"] {
        Value::Array(many) => many.iter().collect(),
        _ if tool["function"].is_object() => vec![&tool["function"]],
        _ => vec![tool],
    });
    let named = flat.filter_map(|tool| {
        let schemas = ["parameters", "parametersJsonSchema", "input_schema"].map(|key| &tool[key]);
        Some(Offered {
            name: tool["name"].as_str()?,
            schema: schemas
                .into_iter()
                .find(|schema| schema.is_object())
                .unwrap_or(&Value::Null),
        })
    });
    named.collect()
}

impl Offered<'_> {
    /// Where a command goes, if this is a shell.
    fn command_key(&self) -> Option<&'static str> {
        let name = self.name.to_lowercase();
        if !SHELLS.iter().any(|shell| name.contains(shell)) {
            return None;
        }
        COMMANDS
            .into_iter()
            .find(|key| self.schema["properties"][key].is_object())
    }

    fn is(&self, property: &str, kind: &str) -> bool {
        let told = self.schema["properties"][property]["type"].as_str().unwrap_or("");
        told.eq_ignore_ascii_case(kind)
    }

    /// A call of this shell, with whatever else it insists on.
    fn call(&self, key: &str, command: &str) -> ToolUse {
        let mut arguments = Map::new();
        let required = self.schema["required"].as_array().map_or(&[][..], Vec::as_slice);
        for name in required.iter().filter_map(Value::as_str) {
            if self.is(name, "string") {
                arguments.insert(name.to_owned(), json!("as scripted"));
            } else if self.is(name, "boolean") {
                arguments.insert(name.to_owned(), json!(false));
            }
        }
        let words = if self.is(key, "array") {
            json!(["sh", "-c", command])
        } else {
            json!(command)
        };
        arguments.insert(key.to_owned(), words);
        ToolUse {
            name: self.name.to_owned(),
            arguments: Value::Object(arguments),
        }
    }
}

/// What a call of one of `mini`'s tools is in a shell.
fn command(call: &ToolUse) -> Option<String> {
    let told = |key: &str| call.arguments[key].as_str();
    match call.name.as_str() {
        "shell" => told("command").map(str::to_owned),
        "read_file" => Some(format!("cat {}", quoted(told("path")?))),
        "write_file" => Some(format!(
            "printf %s {} >{}",
            quoted(told("content")?),
            quoted(told("path")?)
        )),
        _ => None,
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(tool: &str, arguments: Value, body: &Value) -> (String, Value) {
        let fitted = fitted(&Turn::tool("", tool, arguments), body).tools.remove(0);
        (fitted.name, fitted.arguments)
    }

    #[test]
    fn a_call_becomes_one_of_the_clients_own_shell_on_every_wire() {
        let schema = |properties: Value, required: Value| json!({"properties": properties, "required": required});
        let text = json!({"type": "string"});
        let anthropic = schema(json!({"command": text}), json!(["command"]));
        let responses = schema(json!({"cmd": text, "tty": {"type": "boolean"}}), json!(["cmd"]));
        let chat = schema(
            json!({"command": {"type": "array"}, "why": text}),
            json!(["command", "why"]),
        );
        let gemini = schema(
            json!({"command": {"type": "STRING"}, "wait": {"type": "BOOLEAN"}}),
            json!(["wait"]),
        );
        let cases = [
            (
                json!([{"name": "Read", "input_schema": {}}, {"name": "Bash", "input_schema": anthropic}]),
                ("Bash", json!({"command": "ls"})),
            ),
            (
                json!([{"type": "web_search"}, {"type": "function", "name": "exec_command", "parameters": responses}]),
                ("exec_command", json!({"cmd": "ls"})),
            ),
            (
                json!([{"type": "function", "function": {"name": "local_shell", "parameters": chat}}]),
                (
                    "local_shell",
                    json!({"command": ["sh", "-c", "ls"], "why": "as scripted"}),
                ),
            ),
            (
                json!([{"functionDeclarations": [{"name": "run_shell_command", "parametersJsonSchema": gemini}]}]),
                ("run_shell_command", json!({"command": "ls", "wait": false})),
            ),
        ];
        for (tools, (name, arguments)) in cases {
            let body = json!({"tools": tools});
            assert_eq!(
                fit("shell", json!({"command": "ls"}), &body),
                (name.to_owned(), arguments),
                "{body}"
            );
        }
    }

    #[test]
    fn a_call_stays_where_the_client_has_the_tool_or_no_shell() {
        let call = json!({"path": "a"});
        let own = json!([{"name": "read_file"}, {"name": "bash", "input_schema": {"properties": {"command": {}}}}]);
        for tools in [json!([]), json!(null), json!([{"name": "view"}]), own] {
            let body = json!({"tools": tools});
            assert_eq!(
                fit("read_file", call.clone(), &body),
                ("read_file".to_owned(), call.clone()),
                "{body}"
            );
        }
    }

    #[test]
    fn what_a_shell_writes_is_what_the_script_says() {
        let folder = tempfile::tempdir().unwrap();
        let body =
            json!({"tools": [{"name": "bash", "input_schema": {"properties": {"command": {"type": "string"}}}}]});
        let run = |tool: &str, arguments: Value| {
            let (_, arguments) = fit(tool, arguments, &body);
            let mut shell = std::process::Command::new("sh");
            shell
                .arg("-c")
                .arg(arguments["command"].as_str().unwrap())
                .current_dir(folder.path());
            String::from_utf8(shell.output().unwrap().stdout).unwrap()
        };
        let content = "it's \"$@\" `x` $(y) \\n %s\n";
        run("write_file", json!({"path": "a 'b'", "content": content}));
        assert_eq!(std::fs::read_to_string(folder.path().join("a 'b'")).unwrap(), content);
        assert_eq!(run("read_file", json!({"path": "a 'b'"})), content);
    }
}

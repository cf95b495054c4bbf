//! Anthropic Messages (`POST /v1/messages`, `/v1/messages/count_tokens`).

use hyper::Method;
use pond_core::config;
use pond_core::usage::Tokens;
use serde::Deserialize;
use serde_json::{Value, json};

use super::inspect::{self, Tool};
use super::json::Json;
use super::{Asked, Seen, Wire};
use crate::broker::grant::{Feature, Grant};
use crate::broker::provider::{Auth, Betas, ClientBase, Provider, Route};
use crate::broker::refusal::Refusal;

/// The provider.
pub static ANTHROPIC: Provider = Provider {
    name: config::ANTHROPIC.name,
    keys: &[
        (config::ANTHROPIC.keys[0], Auth::Header("x-api-key")),
        (config::ANTHROPIC.keys[1], Auth::Bearer),
    ],
    base_url_env: config::ANTHROPIC.base_url,
    default_base: config::ANTHROPIC.public_url,
    version_path: "/v1",
    client_base: ClientBase::Origin,
    dummy_key: "sk-ant-api03-pond-dummy-key-that-opens-nothing-00000000000000000000000000000000000000000000000000000000000-00000000AA",
    routes: &[
        Route {
            method: Method::POST,
            path: "/v1/messages",
            alias: None,
            query: &["beta"],
            wire: Some(&Messages),
            billed: true,
        },
        Route {
            method: Method::POST,
            path: "/v1/messages/count_tokens",
            alias: None,
            query: &["beta"],
            wire: Some(&Messages),
            billed: false,
        },
        Route {
            method: Method::GET,
            path: "/v1/models",
            alias: None,
            query: &["after_id", "before_id", "limit"],
            wire: None,
            billed: false,
        },
    ],
    beta: Some(&Betas {
        header: "anthropic-beta",
        pass: &[
            "adaptive-thinking-2026-01-28",
            "advanced-tool-use-2025-11-20",
            "claude-code-20250219",
            "compact-2026-01-12",
            "compact-2026-09-04",
            "computer-use-2024-10-22",
            "computer-use-2025-01-24",
            "computer-use-2025-11-24",
            "context-1m-2025-08-07",
            "context-management-2025-06-27",
            "dev-full-thinking-2025-05-14",
            "effort-2025-11-24",
            "extended-cache-ttl-2025-04-11",
            "fine-grained-tool-streaming-2025-05-14",
            "interleaved-thinking-2025-05-14",
            "mid-conversation-system-2026-04-07",
            "mid-conversation-tool-changes-2026-07-01",
            "model-context-window-exceeded-2025-08-26",
            "oauth-2025-04-20",
            "output-128k-2025-02-19",
            "pdfs-2024-09-25",
            "prompt-caching-2024-07-31",
            "prompt-caching-scope-2026-01-05",
            "redact-thinking-2026-02-12",
            "structured-outputs-2025-11-13",
            "structured-outputs-2025-12-15",
            "task-budgets-2026-03-13",
            "thinking-token-count-2026-05-13",
            "token-counting-2024-11-01",
            "token-efficient-tools-2025-02-19",
            "tool-examples-2025-10-29",
        ],
        remote: &[
            ("mcp-", Feature::Mcp),
            ("web-search-", Feature::WebSearch),
            ("web-fetch-", Feature::WebFetch),
            ("code-execution-", Feature::CodeExecution),
            ("skills-", Feature::CodeExecution),
            ("files-api-", Feature::RemoteUrl),
            ("message-threads-", Feature::Store),
            ("agent-memory-", Feature::Store),
        ],
    }),
    error,
};

fn error(refusal: &Refusal) -> Value {
    json!({"type": "error", "error": {"type": refusal.code, "message": refusal.message}})
}

/// The wire.
pub struct Messages;

impl Wire for Messages {
    fn name(&self) -> &'static str {
        "anthropic messages"
    }

    fn judge(&self, _: Option<&str>, body: &Json<'_>, grant: &Grant) -> Result<Asked, Refusal> {
        let model = inspect::model(grant, body)?;
        for (key, feature) in [
            ("mcp_servers", Feature::Mcp),
            ("container", Feature::CodeExecution),
            ("thread", Feature::Store),
        ] {
            if body.get(key).is_some_and(|value| *value != Json::Array(Vec::new())) {
                inspect::require(grant, feature, key)?;
            }
        }
        for fallback in inspect::list(body, "fallbacks")? {
            let name = fallback.as_text().or_else(|| fallback.text("model")).unwrap_or("");
            inspect::granted_model(grant, name)?;
        }
        // An address of one's own may be a router that speaks this wire.
        inspect::routing(grant, body)?;
        inspect::tools(grant, body, tool)?;
        for key in ["system", "messages"] {
            if let Some(value) = body.get(key) {
                inspect::conversation(grant, value, tool)?;
            }
        }
        Ok(Asked {
            model,
            edits: Vec::new(),
            hide_usage: false,
        })
    }

    fn whole(&self, answer: &[u8]) -> Option<Tokens> {
        let answer: Whole = serde_json::from_slice(answer).ok()?;
        let mut tokens = Tokens::default();
        answer.usage?.apply(&mut tokens);
        Some(tokens)
    }

    fn event(&self, data: &[u8], seen: &mut Seen) {
        let Ok(event) = serde_json::from_slice::<Event<'_>>(data) else {
            return;
        };
        match event {
            Event::MessageStart { message } => {
                if let Some(usage) = message.usage {
                    usage.apply(&mut seen.tokens);
                    seen.knows_input = true;
                }
            }
            Event::ContentBlockDelta { delta } => seen.text += delta.bytes(),
            // Cumulative, and the last word: every field told here replaces what was told at the start.
            Event::MessageDelta { usage: Some(usage) } => {
                usage.apply(&mut seen.tokens);
                seen.settled = true;
            }
            Event::MessageDelta { usage: None } | Event::Other => {}
        }
    }

    fn bills_output(&self) -> bool {
        true
    }

    fn is_usage_alone(&self, _: &[u8]) -> bool {
        false
    }

    fn streams_array(&self) -> bool {
        false
    }

    fn error_event(&self, refusal: &Refusal) -> (Option<&'static str>, Value) {
        (Some("error"), error(refusal))
    }
}

/// Tool types and who carries them out, after the provider's list of tools. Dated types are named without their date.
fn tool(tool: &Json<'_>) -> Tool {
    let kind = match tool.get("type") {
        None => return Tool::Client,
        Some(kind) => kind.as_text().unwrap_or(""),
    };
    let dated = |base: &str| {
        let date = kind.strip_prefix(base).and_then(|rest| rest.strip_prefix('_'));
        date.is_some_and(|date| date.len() == 8 && date.bytes().all(|byte| byte.is_ascii_digit()))
    };
    // The search of tools goes through those of the request itself: nothing is fetched, run or kept.
    const CLIENT: [&str; 6] = [
        "bash",
        "text_editor",
        "memory",
        "computer",
        "tool_search_tool_regex",
        "tool_search_tool_bm25",
    ];
    const REMOTE: [(&str, Feature); 4] = [
        ("web_search", Feature::WebSearch),
        ("web_fetch", Feature::WebFetch),
        ("code_execution", Feature::CodeExecution),
        ("mcp_toolset", Feature::Mcp),
    ];
    if kind == "custom"
        || kind.starts_with("tool_search_tool_") && CLIENT.contains(&kind)
        || CLIENT.iter().any(|base| dated(base))
    {
        return Tool::Client;
    }
    let remote = REMOTE.iter().find(|(base, _)| kind.starts_with(base));
    remote.map_or(Tool::Unknown, |(_, feature)| Tool::Remote(*feature))
}

#[derive(Deserialize)]
struct Whole {
    usage: Option<Usage>,
}

/// The counts as the wire tells them: `input_tokens` leaves out both kinds of cached input, so the four are disjoint.
#[derive(Deserialize)]
struct Usage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

impl Usage {
    fn apply(&self, tokens: &mut Tokens) {
        let told = |value: &mut u64, told: Option<u64>| *value = told.unwrap_or(*value);
        told(&mut tokens.input, self.input_tokens);
        told(&mut tokens.output, self.output_tokens);
        told(&mut tokens.cache_write, self.cache_creation_input_tokens);
        told(&mut tokens.cache_read, self.cache_read_input_tokens);
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Event<'a> {
    MessageStart {
        message: Whole,
    },
    ContentBlockDelta {
        #[serde(borrow)]
        delta: Delta<'a>,
    },
    MessageDelta {
        usage: Option<Usage>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    text: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    partial_json: Option<std::borrow::Cow<'a, str>>,
    #[serde(borrow)]
    thinking: Option<std::borrow::Cow<'a, str>>,
}

impl Delta<'_> {
    fn bytes(&self) -> u64 {
        [&self.text, &self.partial_json, &self.thinking]
            .into_iter()
            .flatten()
            .map(|text| text.len() as u64)
            .sum()
    }
}

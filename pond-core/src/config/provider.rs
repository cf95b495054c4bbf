//! The model providers that the broker knows: where their key and address stand in a credential.
//!
//! Names stand here once; the worker's broker adds to each how its key is sent and what may be asked of it.

/// A provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// Its name in credentials and models.
    pub name: &'static str,
    /// Environment names of its key, best first; any one of them serves.
    pub keys: &'static [&'static str],
    /// Environment name of its base URL.
    pub base_url: &'static str,
    /// Its public base URL, where it has one.
    pub public_url: Option<&'static str>,
    /// The wires that agents speak to it.
    pub wires: &'static [&'static str],
}

/// Anthropic.
pub const ANTHROPIC: Provider = Provider {
    name: "anthropic",
    keys: &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"],
    base_url: "ANTHROPIC_BASE_URL",
    public_url: Some("https://api.anthropic.com"),
    wires: &["anthropic"],
};

/// OpenAI.
pub const OPENAI: Provider = Provider {
    name: "openai",
    keys: &["OPENAI_API_KEY"],
    base_url: "OPENAI_BASE_URL",
    public_url: Some("https://api.openai.com/v1"),
    wires: &["responses", "chat"],
};

/// Any server that speaks OpenAI's wires.
pub const OPENAI_COMPATIBLE: Provider = Provider {
    name: "openai_compatible",
    keys: OPENAI.keys,
    base_url: OPENAI.base_url,
    public_url: None,
    wires: &["chat", "responses"],
};

/// OpenRouter.
pub const OPENROUTER: Provider = Provider {
    name: "openrouter",
    keys: &["OPENROUTER_API_KEY"],
    base_url: "OPENROUTER_BASE_URL",
    public_url: Some("https://openrouter.ai/api/v1"),
    wires: &["chat", "responses"],
};

/// Google's Gemini API.
pub const GEMINI: Provider = Provider {
    name: "gemini",
    keys: &["GEMINI_API_KEY", "GOOGLE_API_KEY"],
    base_url: "GOOGLE_GEMINI_BASE_URL",
    public_url: Some("https://generativelanguage.googleapis.com"),
    wires: &["gemini"],
};

/// All of them. One more is a constant and a line here, and one wire in the worker's broker.
pub const PROVIDERS: &[Provider] = &[ANTHROPIC, OPENAI, OPENAI_COMPATIBLE, OPENROUTER, GEMINI];

impl Provider {
    /// The provider of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        PROVIDERS.iter().find(|provider| provider.name == name)
    }
}

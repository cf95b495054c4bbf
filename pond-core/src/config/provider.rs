//! The model providers that the broker knows: where their key and address stand in a credential.

/// A provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Provider {
    /// Its name in credentials and models.
    pub name: &'static str,
    /// Environment names of its key; any one of them serves.
    pub keys: &'static [&'static str],
    /// Environment name of its base URL.
    pub base_url: &'static str,
    /// Its public base URL.
    pub public_url: &'static str,
    /// The wire that agents speak to it.
    pub wires: &'static [&'static str],
}

/// All of them. One more is one line here and one wire in the worker's broker.
pub const PROVIDERS: &[Provider] = &[
    Provider {
        name: "anthropic",
        keys: &["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"],
        base_url: "ANTHROPIC_BASE_URL",
        public_url: "https://api.anthropic.com",
        wires: &["anthropic"],
    },
    Provider {
        name: "openai",
        keys: &["OPENAI_API_KEY"],
        base_url: "OPENAI_BASE_URL",
        public_url: "https://api.openai.com/v1",
        wires: &["responses", "chat"],
    },
    Provider {
        name: "openai_compatible",
        keys: &["OPENAI_API_KEY"],
        base_url: "OPENAI_BASE_URL",
        public_url: "",
        wires: &["chat", "responses"],
    },
    Provider {
        name: "openrouter",
        keys: &["OPENROUTER_API_KEY"],
        base_url: "OPENROUTER_BASE_URL",
        public_url: "https://openrouter.ai/api/v1",
        wires: &["chat", "responses"],
    },
];

impl Provider {
    /// The provider of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        PROVIDERS.iter().find(|provider| provider.name == name)
    }
}

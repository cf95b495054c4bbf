//! Bodies judged per wire: models, remote features, tools, `store`.

use std::collections::{BTreeMap, BTreeSet};

use hyper::Method;
use pond_core::secret::Secret;
use pond_core::usage::Prices;
use pond_worker::broker::wire::{Asked, Edit, Json, json as body};
use pond_worker::broker::{Feature, Grant, Refusal, provider};
use proptest::prelude::*;
use serde_json::{Value, json};

const ANTHROPIC: (&str, &str) = ("anthropic", "/v1/messages");
const RESPONSES: (&str, &str) = ("openai", "/v1/responses");
const CHAT: (&str, &str) = ("openai_compatible", "/v1/chat/completions");
const EMBEDDINGS: (&str, &str) = ("openai", "/v1/embeddings");
const GEMINI: (&str, &str) = ("gemini", "/v1beta/models/m:generateContent");
const GEMINI_STREAM: (&str, &str) = ("gemini", "/v1beta/models/m:streamGenerateContent");
const GEMINI_TOKENS: (&str, &str) = ("gemini", "/v1beta/models/m:countTokens");

fn grant(name: &str, features: &[Feature]) -> Grant {
    let credential = [
        "ANTHROPIC_API_KEY",
        "OPENAI_API_KEY",
        "OPENROUTER_API_KEY",
        "GOOGLE_API_KEY",
    ]
    .map(|name| (name, "k"));
    let base = [("OPENAI_BASE_URL", "http://127.0.0.1:1")];
    let values = credential
        .into_iter()
        .chain(base)
        .map(|(name, value)| (name.to_owned(), Secret::new(value)));
    let models = ["m", "n", "o:online"].map(|model| (model.to_owned(), Prices::default()));
    let features = features.iter().copied().collect();
    Grant::new(
        provider(name).expect("known"),
        &values.collect(),
        BTreeMap::from(models),
        features,
    )
    .expect("a grant")
}

fn judge((name, path): (&str, &str), body: &str, features: &[Feature]) -> Result<Asked, Refusal> {
    let grant = grant(name, features);
    let found = grant.provider().route(&Method::POST, path).expect("a route");
    let body = Json::parse(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error}"));
    found.route.wire.expect("a wire").judge(found.model, &body, &grant)
}

fn refused(wire: (&str, &str), body: &str, features: &[Feature]) -> &'static str {
    match judge(wire, body, features) {
        Ok(asked) => panic!("{body} passed with {features:?}: {asked:?}"),
        Err(refusal) => refusal.code,
    }
}

/// Per wire: a body's rest, and the feature it needs.
fn remote() -> Vec<((&'static str, &'static str), &'static str, Feature)> {
    use Feature::{Background, CodeExecution, FileSearch, Mcp, RemoteUrl, Store, WebFetch, WebSearch};
    vec![
        (
            ANTHROPIC,
            r#""mcp_servers":[{"type":"url","url":"https://x","name":"x"}]"#,
            Mcp,
        ),
        (
            ANTHROPIC,
            r#""MCP_Servers":[{"type":"url","url":"https://x","name":"x"}]"#,
            Mcp,
        ),
        (
            ANTHROPIC,
            r#""tools":[{"type":"mcp_toolset","mcp_server_name":"x"}]"#,
            Mcp,
        ),
        (
            ANTHROPIC,
            r#""tools":[{"type":"web_search_20250305","name":"web_search"}]"#,
            WebSearch,
        ),
        (
            ANTHROPIC,
            r#""tools":[{"type":"web_fetch_20250910","name":"web_fetch"}]"#,
            WebFetch,
        ),
        (
            ANTHROPIC,
            r#""tools":[{"type":"code_execution_20250825","name":"code_execution"}]"#,
            CodeExecution,
        ),
        (
            ANTHROPIC,
            r#""container":{"skills":[{"type":"anthropic","skill_id":"pptx"}]}"#,
            CodeExecution,
        ),
        (ANTHROPIC, r#""thread":{"id":"t"}"#, Store),
        (
            ANTHROPIC,
            r#""messages":[{"role":"user","content":[{"type":"image","source":{"type":"url","url":"https://x/a"}}]}]"#,
            RemoteUrl,
        ),
        (
            ANTHROPIC,
            r#""messages":[{"role":"user","content":[{"type":"document","source":{"type":"file","file_id":"f"}}]}]"#,
            RemoteUrl,
        ),
        (
            ANTHROPIC,
            r#""messages":[{"role":"user","content":[{"type":"tool_result","tool_use_id":"t","content":[
                {"type":"image","source":{"type":"url","url":"https://x/a"}}]}]}]"#,
            RemoteUrl,
        ),
        (
            ANTHROPIC,
            r#""messages":[{"role":"user","content":[{"type":"container_upload","x":1}]}]"#,
            CodeExecution,
        ),
        (
            ANTHROPIC,
            r#""messages":[{"role":"system","content":[{"type":"tool_addition","definition":
                {"type":"web_search_20250305","name":"w"}}]}]"#,
            WebSearch,
        ),
        (
            RESPONSES,
            r#""tools":[{"type":"mcp","server_label":"x","server_url":"https://x"}]"#,
            Mcp,
        ),
        (RESPONSES, r#""tools":[{"type":"web_search"}]"#, WebSearch),
        (
            RESPONSES,
            r#""tools":[{"type":"web_search_preview_2025_03_11"}]"#,
            WebSearch,
        ),
        (
            RESPONSES,
            r#""tools":[{"type":"file_search","vector_store_ids":["v"]}]"#,
            FileSearch,
        ),
        (
            RESPONSES,
            r#""tools":[{"type":"code_interpreter","container":{"type":"auto"}}]"#,
            CodeExecution,
        ),
        (RESPONSES, r#""tools":[{"type":"shell"}]"#, CodeExecution),
        (
            RESPONSES,
            r#""tools":[{"type":"shell","environment":{"type":"container_auto"}}]"#,
            CodeExecution,
        ),
        (
            RESPONSES,
            r#""tools":[{"type":"namespace","name":"n","tools":[{"type":"mcp"}]}]"#,
            Mcp,
        ),
        (RESPONSES, r#""background":true"#, Background),
        (RESPONSES, r#""background":"true""#, Background),
        (RESPONSES, r#""previous_response_id":"resp_1""#, Store),
        (RESPONSES, r#""conversation":"conv_1""#, Store),
        (RESPONSES, r#""prompt":{"id":"pmpt_1"}"#, Store),
        (RESPONSES, r#""input":[{"type":"item_reference","id":"msg_1"}]"#, Store),
        (
            RESPONSES,
            r#""input":[{"role":"user","content":"hi"},{"id":"msg_1"}]"#,
            Store,
        ),
        (RESPONSES, r#""input":[{"id":"msg_1","type":null,"role":""}]"#, Store),
        (
            RESPONSES,
            r#""input":[{"type":"additional_tools","tools":[{"type":"web_search"}]}]"#,
            WebSearch,
        ),
        (
            RESPONSES,
            r#""input":[{"role":"user","content":[{"type":"input_image","image_url":"https://x/a.png"}]}]"#,
            RemoteUrl,
        ),
        (
            RESPONSES,
            r#""input":[{"role":"user","content":[{"type":"input_file","file_url":"http://x/a.pdf"}]}]"#,
            RemoteUrl,
        ),
        (
            RESPONSES,
            r#""input":[{"type":"function_call_output","call_id":"c","output":[{"type":"input_file","file_id":"f"}]}]"#,
            RemoteUrl,
        ),
        (GEMINI, r#""tools":[{"googleSearch":{}}]"#, WebSearch),
        (GEMINI_STREAM, r#""tools":[{"google_search":{}}]"#, WebSearch),
        (GEMINI, r#""Tools":[{"googleSearchRetrieval":{}}]"#, WebSearch),
        (
            GEMINI,
            r#""tools":[{"functionDeclarations":[{"name":"f"}],"codeExecution":{}}]"#,
            CodeExecution,
        ),
        (GEMINI, r#""tools":[{"code_execution":{}}]"#, CodeExecution),
        (GEMINI_STREAM, r#""tools":[{"urlContext":{}}]"#, WebFetch),
        (GEMINI, r#""tools":[{"url_context":{}}]"#, WebFetch),
        (
            GEMINI,
            r#""tools":[{"fileSearch":{"fileSearchStoreNames":["s"]}}]"#,
            FileSearch,
        ),
        (
            GEMINI,
            r#""tools":[{"mcpServers":[{"name":"x","streamableHttpTransport":{"url":"https://x"}}]}]"#,
            Mcp,
        ),
        (GEMINI, r#""cachedContent":"cachedContents/c""#, Store),
        (GEMINI, r#""cached_content":"cachedContents/c""#, Store),
        (
            GEMINI,
            r#""contents":[{"parts":[{"fileData":{"fileUri":"https://x/a.pdf"}}]}]"#,
            RemoteUrl,
        ),
        (
            GEMINI_STREAM,
            r#""contents":[{"parts":[{"file_data":{"file_uri":"gs://x/a"}}]}]"#,
            RemoteUrl,
        ),
        (
            GEMINI,
            r#""system_instruction":{"parts":[{"fileData":{"fileUri":"files/f"}}]}"#,
            RemoteUrl,
        ),
        (
            GEMINI,
            r#""contents":[{"parts":[{"functionResponse":{"name":"f","response":{},"parts":[{"fileData":{"fileUri":"https://x"}}]}}]}]"#,
            RemoteUrl,
        ),
        (
            GEMINI_TOKENS,
            r#""generateContentRequest":{"model":"models/m","tools":[{"googleSearch":{}}]}"#,
            WebSearch,
        ),
        (CHAT, r#""web_search_options":{}"#, WebSearch),
        (CHAT, r#""plugins":[{"id":"web","max_results":3}]"#, WebSearch),
        (CHAT, r#""plugins":[{"id":"file-parser"}]"#, CodeExecution),
        (CHAT, r#""tools":[{"type":"openrouter:web_search"}]"#, WebSearch),
        (CHAT, r#""preset":"p""#, Store),
        (
            CHAT,
            r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x/a.png"}}]}]"#,
            RemoteUrl,
        ),
        (
            CHAT,
            r#""messages":[{"role":"user","content":[{"type":"file","file":{"file_data":"https://x/a.pdf"}}]}]"#,
            RemoteUrl,
        ),
        (
            CHAT,
            r#""messages":[{"role":"user","content":[{"type":"file","file":{"file_id":"f"}}]}]"#,
            RemoteUrl,
        ),
    ]
}

#[test]
fn c17_87_each_remote_feature_is_refused_and_passes_once_granted() {
    let all: BTreeSet<Feature> = Feature::ALL.iter().map(|(_, feature)| *feature).collect();
    for (wire, rest, feature) in remote() {
        let body = format!(r#"{{"model":"m",{rest}}}"#);
        assert_eq!(refused(wire, &body, &[]), "remote_feature_not_allowed", "{body}");
        let others: Vec<Feature> = all.iter().copied().filter(|other| *other != feature).collect();
        assert_eq!(refused(wire, &body, &others), "remote_feature_not_allowed");
        let told = judge(wire, &body, &[]).expect_err("refused").message;
        assert!(told.contains(feature.as_str()), "{told}");
        judge(wire, &body, &[feature]).unwrap_or_else(|refusal| panic!("{body}: {refusal:?}"));
    }
}

#[test]
fn what_is_remote_on_one_wire_of_the_family_passes_on_none() {
    let wires = ["/v1/responses", "/v1/chat/completions", "/v1/embeddings"];
    for (_, rest, _) in remote()
        .into_iter()
        .filter(|((name, _), ..)| !["anthropic", "gemini"].contains(name))
    {
        let body = format!(r#"{{"model":"m",{rest}}}"#);
        for provider in ["openai", "openai_compatible", "openrouter"] {
            for wire in wires {
                let code = refused((provider, wire), &body, &[]);
                assert!(
                    ["remote_feature_not_allowed", "invalid_request_error"].contains(&code),
                    "{code}"
                );
            }
        }
    }
}

#[test]
fn routing_is_judged_on_every_wire() {
    let rows: [(&str, &str, &[Feature]); 6] = [
        (
            r#""plugins":[{"id":"web"}]"#,
            "remote_feature_not_allowed",
            &[Feature::WebSearch],
        ),
        (
            r#""plugins":[{"id":"file-parser"}]"#,
            "remote_feature_not_allowed",
            &[Feature::CodeExecution],
        ),
        (r#""preset":"p""#, "remote_feature_not_allowed", &[Feature::Store]),
        (
            r#""models":["m:online"]"#,
            "remote_feature_not_allowed",
            &[Feature::WebSearch],
        ),
        (r#""models":["n","x"]"#, "model_not_allowed", &[]),
        (r#""plugins":{"id":"web"}"#, "invalid_request_error", &[]),
    ];
    for wire in [ANTHROPIC, RESPONSES, CHAT, EMBEDDINGS, ("openrouter", "/v1/responses")] {
        for (rest, code, opens) in rows {
            let body = format!(r#"{{"model":"m",{rest}}}"#);
            assert_eq!(refused(wire, &body, &[]), code, "{wire:?} {rest}");
            if !opens.is_empty() {
                judge(wire, &body, opens).unwrap_or_else(|refusal| panic!("{wire:?} {body}: {refusal:?}"));
            }
        }
    }
}

#[test]
fn only_text_and_tokens_are_embedded() {
    let all: Vec<Feature> = Feature::ALL.iter().map(|(_, feature)| *feature).collect();
    for good in [r#""a""#, r#"["a","b"]"#, "[1,2]", "[[1,2],[3]]", "[]"] {
        judge(EMBEDDINGS, &format!(r#"{{"model":"m","input":{good}}}"#), &[]).expect(good);
    }
    for bad in [
        r#"[{"image_url":"data:image/png;base64,aGk="}]"#,
        r#"{"image_url":"https://x"}"#,
        r#"[["a"]]"#,
        "true",
        "[[[1]]]",
    ] {
        let body = format!(r#"{{"model":"m","input":{bad}}}"#);
        assert_eq!(refused(EMBEDDINGS, &body, &all), "invalid_request_error");
    }
    let chat = r#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
    assert_eq!(refused(EMBEDDINGS, chat, &all), "invalid_request_error");
}

#[test]
fn every_feature_is_tried_on_some_wire() {
    let tried: BTreeSet<Feature> = remote().into_iter().map(|(_, _, feature)| feature).collect();
    assert_eq!(tried.len(), Feature::ALL.len());
}

#[test]
fn unknown_tool_types_are_refused_whatever_is_granted() {
    let all: Vec<Feature> = Feature::ALL.iter().map(|(_, feature)| *feature).collect();
    for (wire, tool) in [
        (ANTHROPIC, r#"{"type":"teleport_20300101","name":"t"}"#),
        (ANTHROPIC, r#"{"type":"bash_remote_20300101","name":"t"}"#),
        (ANTHROPIC, r#"{"type":["custom"],"name":"t"}"#),
        (ANTHROPIC, r#"{"type":"advisor_20260301","name":"t"}"#),
        (RESPONSES, r#"{"type":"image_generation"}"#),
        (RESPONSES, r#"{"name":"f"}"#),
        (GEMINI, r#"{"teleport":{}}"#),
        (GEMINI, r#"{"functionDeclarations":[],"exaAiSearch":{}}"#),
        (GEMINI, "{}"),
        (GEMINI, r#"{"googleSearch":null}"#),
        (GEMINI_STREAM, r#""function""#),
        (CHAT, r#"{"type":"teleport"}"#),
        (CHAT, r#""function""#),
    ] {
        assert_eq!(
            refused(wire, &format!(r#"{{"model":"m","tools":[{tool}]}}"#), &all),
            "remote_feature_not_allowed"
        );
    }
    for wire in [ANTHROPIC, RESPONSES, CHAT, GEMINI] {
        assert_eq!(
            refused(wire, r#"{"model":"m","tools":{"type":"function"}}"#, &all),
            "invalid_request_error"
        );
    }
    let plugin = r#"{"model":"m","plugins":[{"id":"teleport"}]}"#;
    assert_eq!(refused(CHAT, plugin, &all), "remote_feature_not_allowed");
}

#[test]
fn what_the_client_does_itself_passes() {
    for (wire, rest) in [
        (
            ANTHROPIC,
            r#""tools":[{"name":"f","input_schema":{"type":"object","properties":{"url":{"type":"string"}}}}]"#,
        ),
        (
            ANTHROPIC,
            r#""tools":[{"type":"custom","name":"f"},{"type":"bash_20250124","name":"bash"}]"#,
        ),
        (
            ANTHROPIC,
            r#""tools":[{"type":"text_editor_20250728","name":"e"},{"type":"memory_20250818","name":"memory"}]"#,
        ),
        (ANTHROPIC, r#""mcp_servers":[],"container":null"#),
        (
            ANTHROPIC,
            r#""messages":[{"role":"user","content":"see https://x and {\"type\":\"mcp\"}"}]"#,
        ),
        (
            ANTHROPIC,
            r#""messages":[{"role":"assistant","content":[{"type":"tool_use","id":"t","name":"f","input":
                {"source":{"type":"url","url":"https://x"},"tools":[{"type":"mcp"}]}}]}]"#,
        ),
        (
            ANTHROPIC,
            r#""messages":[{"role":"user","content":[{"type":"image","source":{"type":"base64","media_type":"image/png","data":"aGk="}},
                {"type":"document","source":{"type":"text","media_type":"text/plain","data":"https://x"}}]}]"#,
        ),
        (
            RESPONSES,
            r#""tools":[{"type":"function","name":"f"},{"type":"custom","name":"p"},{"type":"apply_patch"}]"#,
        ),
        (
            RESPONSES,
            r#""tools":[{"type":"shell","environment":{"type":"local"}},{"type":"local_shell"}]"#,
        ),
        (
            RESPONSES,
            r#""background":false,"previous_response_id":null,"input":"https://x""#,
        ),
        (
            RESPONSES,
            r#""input":[{"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,aGk="}]}]"#,
        ),
        (
            CHAT,
            r#""tools":[{"type":"function","function":{"name":"f","parameters":{}}}]"#,
        ),
        (
            GEMINI,
            r#""tools":[{"functionDeclarations":[{"name":"f","parameters":{"properties":{"fileUri":{"type":"STRING"}}}}]}]"#,
        ),
        (
            GEMINI_STREAM,
            r#""contents":[{"parts":[{"inlineData":{"mimeType":"image/png","data":"aGk="}},{"text":"https://x"}]},
                {"role":"model","parts":[{"functionCall":{"name":"f","args":{"fileData":{"fileUri":"https://x"}}}}]},
                {"role":"user","parts":[{"functionResponse":{"name":"f","response":{"fileUri":"https://x"}}}]}]"#,
        ),
        (GEMINI_TOKENS, r#""generateContentRequest":{"model":"models/m"}"#),
        (GEMINI, r#""cachedContent":null,"store":false"#),
        (CHAT, r#""plugins":[{"id":"response-healing"}]"#),
        (
            CHAT,
            r#""messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"DATA:image/png;base64,aGk="}}]},
                {"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"image_url\":\"https://x\"}"}}]}]"#,
        ),
    ] {
        let body = format!(r#"{{"model":"m",{rest}}}"#);
        judge(wire, &body, &[]).unwrap_or_else(|refusal| panic!("{body}: {refusal:?}"));
    }
}

#[test]
fn only_granted_models_pass_also_as_fallbacks() {
    for wire in [ANTHROPIC, RESPONSES, CHAT, EMBEDDINGS] {
        assert_eq!(refused(wire, r#"{"model":"x"}"#, &[]), "model_not_allowed");
        assert_eq!(refused(wire, r#"{"model":"M"}"#, &[]), "model_not_allowed");
        assert_eq!(refused(wire, r#"{"model":["m"]}"#, &[]), "invalid_request_error");
        assert_eq!(refused(wire, "{}", &[]), "invalid_request_error");
        assert_eq!(judge(wire, r#"{"model":"n"}"#, &[]).expect("granted").model, "n");
    }
    assert_eq!(
        refused(CHAT, r#"{"model":"m","models":["n","x"]}"#, &[]),
        "model_not_allowed"
    );
    assert_eq!(
        refused(ANTHROPIC, r#"{"model":"m","fallbacks":[{"model":"x"}]}"#, &[]),
        "model_not_allowed"
    );
}

#[test]
fn the_model_of_a_path_must_be_granted_and_the_body_may_name_no_other() {
    let at = |model: &str| format!("/v1beta/models/{model}:generateContent");
    assert_eq!(judge(("gemini", &at("n")), "{}", &[]).expect("granted").model, "n");
    assert_eq!(refused(("gemini", &at("x")), "{}", &[]), "model_not_allowed");
    for body in [
        r#"{"model":"models/n"}"#,
        r#"{"Model":"n"}"#,
        r#"{"model":["m"]}"#,
        r#"{"generateContentRequest":{"model":"models/x"}}"#,
    ] {
        assert_eq!(refused(GEMINI, body, &[]), "model_not_allowed", "{body}");
    }
    let gemini = provider("gemini").expect("known");
    for path in [
        "/v1beta/models/:generateContent",
        "/v1beta/models/..:generateContent",
        "/v1beta/models/a/b:generateContent",
        "/v1beta/models/m%2f:generateContent",
        "/v1beta/models/m:generateContent:generateContent",
        "/v1beta/models/m:embedContent",
        "/v1beta/models/m:batchGenerateContent",
        "/v1beta/tunedModels/m:generateContent",
        "/v1/models/m:generateContent",
        "/v1beta/models/{model}:generateContent",
    ] {
        assert!(gemini.route(&Method::POST, path).is_none(), "{path}");
    }
}

#[test]
fn what_gemini_is_asked_to_keep_is_set_to_false() {
    let off = [Edit::Set("store", "false")];
    for body in [r#"{"store":true}"#, r#"{"STORE":1}"#] {
        assert_eq!(judge(GEMINI, body, &[]).expect("passes").edits, off, "{body}");
        assert_eq!(judge(GEMINI, body, &[Feature::Store]).expect("passes").edits, []);
    }
    assert_eq!(judge(GEMINI, "{}", &[]).expect("passes").edits, []);
}

#[test]
fn a_model_id_that_searches_the_web_needs_the_feature() {
    for model in [
        "m:online",
        "o:online",
        "gpt-5-search-api",
        "gpt-4o-search-preview-2025-03-11",
    ] {
        let body = format!(r#"{{"model":"{model}"}}"#);
        assert_eq!(refused(CHAT, &body, &[]), "remote_feature_not_allowed");
    }
    let asked = |model| judge(CHAT, &format!(r#"{{"model":"{model}"}}"#), &[Feature::WebSearch]);
    assert_eq!(asked("m:online").expect("granted").model, "m");
    assert_eq!(asked("o:online").expect("granted").model, "o:online");
    assert_eq!(asked("x:online").expect_err("not granted").code, "model_not_allowed");
}

#[test]
fn store_is_false_unless_granted() {
    let off = [Edit::Set("store", "false")];
    for body in [
        r#"{"model":"m"}"#,
        r#"{"model":"m","store":true}"#,
        r#"{"model":"m","STORE":true}"#,
        r#"{"model":"m","store":"x"}"#,
    ] {
        assert_eq!(judge(RESPONSES, body, &[]).expect("passes").edits, off, "{body}");
        assert_eq!(
            judge(RESPONSES, body, &[Feature::Store]).expect("passes").edits,
            [],
            "{body}"
        );
        let edited = body::edit(body.as_bytes(), &off).expect("an object");
        assert_eq!(edited, br#"{"model":"m","store":false}"#, "{body}");
    }
    assert_eq!(
        judge(RESPONSES, r#"{"model":"m","store":false}"#, &[])
            .expect("passes")
            .edits,
        []
    );
    assert_eq!(
        judge(CHAT, r#"{"model":"m","store":true}"#, &[]).expect("passes").edits,
        off
    );
    assert_eq!(
        judge(CHAT, r#"{"model":"m"}"#, &[]).expect("passes").edits,
        [],
        "left out means false on this wire"
    );
}

#[test]
fn chat_streams_are_made_to_tell_their_usage() {
    let ask = [Edit::SetIn("stream_options", "include_usage", "true")];
    for (body, edits, hide) in [
        (r#"{"model":"m","stream":true}"#, &ask[..], true),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":false}}"#,
            &ask[..],
            true,
        ),
        (
            r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#,
            &[][..],
            false,
        ),
        (r#"{"model":"m","stream":false}"#, &[][..], false),
    ] {
        let asked = judge(CHAT, body, &[]).expect("passes");
        assert_eq!((asked.edits.as_slice(), asked.hide_usage), (edits, hide), "{body}");
    }
}

/// Wraps a value into lists and objects.
fn buried(mut value: Value, wraps: &[Option<String>]) -> Value {
    for wrap in wraps {
        value = match wrap {
            None => json!([1, value, "x"]),
            Some(key) => json!({ "type": "text", key.as_str(): value }),
        };
    }
    value
}

proptest! {
    #[test]
    fn an_address_to_fetch_is_found_however_deep(
        wraps in proptest::collection::vec(proptest::option::of("k[a-z]{0,4}|content|output|input|source"), 0..12),
        upper in any::<bool>(),
    ) {
        let url = "https://169.254.169.254/latest";
        let key = if upper { "IMAGE_URL" } else { "image_url" };
        let image = json!({"type": "image", "source": {"type": "url", "url": url}});
        for (wire, list, hidden) in [
            (ANTHROPIC, "messages", image),
            (CHAT, "messages", json!({"type": "image_url", key: {"url": url}})),
            (RESPONSES, "input", json!({"type": "input_image", key: url})),
        ] {
            let asked = json!({"model": "m", list: [buried(hidden, &wraps)]}).to_string();
            prop_assert_eq!(refused(wire, &asked, &[]), "remote_feature_not_allowed");
        }
    }
}

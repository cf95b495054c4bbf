//! What the wires' judgements share: models, remote features, and the walk through a conversation for what hides in it.

use super::json::Json;
use crate::broker::grant::{Feature, Grant};
use crate::broker::refusal::Refusal;

/// What a tool in a request is.
pub(super) enum Tool {
    /// The client carries it out.
    Client,
    /// The provider carries it out.
    Remote(Feature),
    /// A kind nobody here knows, so it may be either.
    Unknown,
}

/// Refuses a feature that is not granted; `what` of the request asks for it.
pub(in crate::broker) fn require(grant: &Grant, feature: Feature, what: &str) -> Result<(), Refusal> {
    if grant.allows(feature) {
        return Ok(());
    }
    let what: String = what.chars().filter(|c| !c.is_control()).take(80).collect();
    Err(Refusal::forbidden(
        "remote_feature_not_allowed",
        format!(
            "`{what}` needs the remote feature `{feature}`: name it in the credential's remote_features to open it"
        ),
    ))
}

/// The model asked for, if it is granted.
pub(super) fn model(grant: &Grant, body: &Json<'_>) -> Result<String, Refusal> {
    let asked = body
        .text("model")
        .ok_or_else(|| Refusal::malformed("the body names no model"))?;
    granted_model(grant, asked)
}

/// A model by name, if it is granted. Some names make the provider search the web.
pub(super) fn granted_model(grant: &Grant, asked: &str) -> Result<String, Refusal> {
    let plain = asked.strip_suffix(":online");
    if plain.is_some() || asked.contains("-search-preview") || asked.contains("-search-api") {
        require(grant, Feature::WebSearch, asked)?;
    }
    let granted = [Some(asked), plain]
        .into_iter()
        .flatten()
        .find(|name| grant.models.contains_key(*name));
    granted.map(str::to_owned).ok_or_else(|| {
        let known = grant.models.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        Refusal::forbidden("model_not_allowed", format!("this job may use: {known}"))
    })
}

/// Judges a request on one of OpenAI's wires. Servers of this family read each other's fields, so each wire is asked for all.
pub(super) fn request(grant: &Grant, body: &Json<'_>, kind: fn(&Json<'_>) -> Tool) -> Result<(), Refusal> {
    routing(grant, body)?;
    if body.get("web_search_options").is_some() {
        require(grant, Feature::WebSearch, "web_search_options")?;
    }
    if body.get("background").is_some_and(|value| *value != Json::Bool(false)) {
        require(grant, Feature::Background, "background")?;
    }
    // Each names something kept at the provider: an earlier answer, a conversation, a prompt with tools of its own.
    for key in ["previous_response_id", "conversation", "prompt"] {
        if body.get(key).is_some() {
            require(grant, Feature::Store, key)?;
        }
    }
    tools(grant, body, kind)?;
    for key in ["input", "messages"] {
        if let Some(said) = body.get(key) {
            references(grant, said)?;
            conversation(grant, said, kind)?;
        }
    }
    Ok(())
}

/// OpenRouter's ways to have another model answer, or something else done on the way.
pub(super) fn routing(grant: &Grant, body: &Json<'_>) -> Result<(), Refusal> {
    for other in list(body, "models")? {
        granted_model(grant, other.as_text().unwrap_or(""))?;
    }
    for plugin in list(body, "plugins")? {
        match plugin.text("id").unwrap_or("") {
            "web" => require(grant, Feature::WebSearch, "plugins: web")?,
            "file-parser" => require(grant, Feature::CodeExecution, "plugins: file-parser")?,
            // Both work on the very request and answer.
            "context-compression" | "response-healing" => {}
            _ => {
                return Err(Refusal::forbidden(
                    "remote_feature_not_allowed",
                    "unknown plug-in in `plugins`",
                ));
            }
        }
    }
    match body.get("preset") {
        None => Ok(()),
        Some(_) => require(grant, Feature::Store, "preset"),
    }
}

/// An item with an id alone is a reference to one that the provider kept: its type may be left out.
fn references(grant: &Grant, said: &Json<'_>) -> Result<(), Refusal> {
    let items = match said {
        Json::Array(items) => items,
        one => std::slice::from_ref(one),
    };
    let told = |item: &Json<'_>, key| item.text(key).is_some_and(|text| !text.is_empty());
    let is_reference = |item: &&Json<'_>| item.get("id").is_some() && !told(item, "type") && !told(item, "role");
    match items.iter().find(is_reference) {
        None => Ok(()),
        Some(_) => require(grant, Feature::Store, "an item with an id alone"),
    }
}

/// The elements of a list in `holder`; what should be a list and is none is refused, as it would go unseen.
pub(super) fn list<'j, 'a>(holder: &'j Json<'a>, key: &str) -> Result<&'j [Json<'a>], Refusal> {
    match holder.get(key) {
        None => Ok(&[]),
        Some(Json::Array(items)) => Ok(items),
        Some(_) => Err(Refusal::malformed(format!("`{key}` is no list"))),
    }
}

/// Judges the tools that `holder` lists.
pub(super) fn tools(grant: &Grant, holder: &Json<'_>, kind: fn(&Json<'_>) -> Tool) -> Result<(), Refusal> {
    list(holder, "tools")?
        .iter()
        .try_for_each(|tool| one_tool(grant, tool, kind))
}

fn one_tool(grant: &Grant, tool: &Json<'_>, kind: fn(&Json<'_>) -> Tool) -> Result<(), Refusal> {
    let name = tool.text("type").unwrap_or("tool without a type");
    match kind(tool) {
        // A tool may hold tools, as a namespace does.
        Tool::Client => tools(grant, tool, kind),
        Tool::Remote(feature) => require(grant, feature, name),
        Tool::Unknown => refuse_tool(name),
    }
}

/// Refuses a kind of tool that nobody here knows.
pub(super) fn refuse_tool(name: &str) -> Result<(), Refusal> {
    let name: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
    let text = format!("unknown tool type `{name}`; tools that the client itself carries out pass");
    Err(Refusal::forbidden("remote_feature_not_allowed", text))
}

/// Walks a conversation for addresses and ids that the provider would fetch, and for tools defined on the way.
pub(super) fn conversation(grant: &Grant, value: &Json<'_>, kind: fn(&Json<'_>) -> Tool) -> Result<(), Refusal> {
    if let Json::Array(items) = value {
        return items.iter().try_for_each(|item| conversation(grant, item, kind));
    }
    let Json::Object(entries) = value else { return Ok(()) };
    let own_type = value.text("type").unwrap_or("");
    match own_type {
        "item_reference" => require(grant, Feature::Store, own_type)?,
        "container_upload" => require(grant, Feature::CodeExecution, own_type)?,
        _ => {}
    }
    for (key, inner) in entries {
        match key.to_ascii_lowercase().as_str() {
            // What the model gave to a tool is data, whatever it looks like.
            "input" if own_type.ends_with("tool_use") => {}
            // The listing of a server's tools, told back.
            "tools" if own_type.starts_with("mcp") => {}
            "tools" => tools(grant, value, kind)?,
            "definition" => one_tool(grant, inner, kind)?,
            "image_url" | "video_url" | "audio_url" | "file_url" => address(grant, key, inner)?,
            "file_data" if inner.as_text().is_some_and(|data| data.contains("://")) => address(grant, key, inner)?,
            "file_id" if *inner != Json::Null => require(grant, Feature::RemoteUrl, key)?,
            "source" => {
                source(grant, inner)?;
                conversation(grant, inner, kind)?;
            }
            _ => conversation(grant, inner, kind)?,
        }
    }
    Ok(())
}

/// An address given as text or as `{url}`: a data URL holds its bytes itself, any other is fetched.
fn address(grant: &Grant, key: &str, value: &Json<'_>) -> Result<(), Refusal> {
    let url = match value {
        Json::Object(_) => value.get("url"),
        Json::Null => None,
        plain => Some(plain),
    };
    match url {
        None => Ok(()),
        Some(Json::String(url)) if url.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:")) => Ok(()),
        Some(_) => require(grant, Feature::RemoteUrl, key),
    }
}

/// Anthropic's `source`: only bytes and text held by the request itself are local.
fn source(grant: &Grant, value: &Json<'_>) -> Result<(), Refusal> {
    let Json::Object(_) = value else { return Ok(()) };
    match value.text("type") {
        Some("base64" | "text" | "content") if value.get("url").is_none() => Ok(()),
        _ => require(grant, Feature::RemoteUrl, "source"),
    }
}

//! Which image a job runs in: one that is there, by the id that its name means now.

use bollard::models::ImageInspect;
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures::StreamExt;
use pond_core::sandbox::SandboxError;

use super::DockerSettings;
use super::engine::{Engine, failed, status, told};
use crate::sandbox::guest::PATH;

/// The longest name of an image.
const MAX_NAME: usize = 255;

/// An image on this host.
#[derive(Debug)]
pub(super) struct Image {
    /// The digest of its settings, so that it is the one that was looked at.
    pub(super) id: String,
    /// Where its programs are looked up.
    pub(super) path: String,
    /// Folders for which the engine would make volumes: without a limit, and of the host.
    pub(super) volumes: Vec<String>,
}

/// Finds the image of a job, and pulls it if that is allowed.
pub(super) async fn find(
    engine: &Engine,
    settings: &DockerSettings,
    named: Option<&str>,
) -> Result<Image, SandboxError> {
    let name = named
        .or(settings.image.as_deref())
        .ok_or_else(|| SandboxError::Unsupported {
            reason: "no image is named, and this worker has none of its own".into(),
            fix: "name one in sandbox.overrides.image, or set POND_DOCKER_IMAGE on the worker".into(),
        })?;
    if !is_sound(name) {
        return Err(SandboxError::Unsupported {
            reason: "the image is not named as images are".into(),
            fix: "name it such as `debian:12` or `registry.example/team/image@sha256:…`".into(),
        });
    }
    let docker = engine.connect().await?;
    let found = match docker.inspect_image(name).await {
        Err(error) if status(&error) == Some(404) && settings.pull => {
            pull(&docker, name).await?;
            docker.inspect_image(name).await
        }
        found => found,
    };
    match found {
        Ok(found) => read(found),
        Err(error) if status(&error) == Some(404) => Err(SandboxError::Unsupported {
            reason: format!("image {name} is not on this host"),
            fix: format!("`docker pull {name}` there, or start the worker with --pull"),
        }),
        Err(error) => Err(failed("the image cannot be looked at")(error)),
    }
}

/// Whether a name can be part of a path of the API and mean nothing else.
fn is_sound(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/:@".contains(&byte);
    !name.is_empty()
        && name.len() <= MAX_NAME
        && name.bytes().all(plain)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

async fn pull(docker: &bollard::Docker, name: &str) -> Result<(), SandboxError> {
    let unpulled = |error| SandboxError::failed(format!("image {name} cannot be pulled: {}", told(&error)));
    // Without a tag the engine would pull every one.
    let tagged = name.rsplit('/').next().is_some_and(|last| last.contains([':', '@']));
    let wanted = if tagged {
        name.to_owned()
    } else {
        format!("{name}:latest")
    };
    let options = CreateImageOptionsBuilder::new().from_image(&wanted).build();
    let mut pulling = std::pin::pin!(docker.create_image(Some(options), None, None));
    while let Some(step) = pulling.next().await {
        step.map_err(unpulled)?;
    }
    Ok(())
}

fn read(found: ImageInspect) -> Result<Image, SandboxError> {
    let id = found
        .id
        .ok_or_else(|| SandboxError::failed("the engine tells no id of the image"))?;
    let config = found.config.unwrap_or_default();
    let path = config.env.iter().flatten().find_map(|pair| pair.strip_prefix("PATH="));
    Ok(Image {
        id,
        path: path.filter(|path| !path.is_empty()).unwrap_or(PATH).to_owned(),
        volumes: config.volumes.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_mean_another_request_are_refused() {
        for name in [
            "debian",
            "debian:12",
            "127.0.0.1:5000/a/b:1",
            "a@sha256:0123456789abcdef",
            "sha256:0123",
        ] {
            assert!(is_sound(name), "{name}");
        }
        let long = "a".repeat(256);
        for name in [
            "",
            "-a",
            "/a",
            "../containers",
            "a/../b",
            "a//b",
            "a?b",
            "a#b",
            "a b",
            "a%2fb",
            "a\n",
            &long,
        ] {
            assert!(!is_sound(name), "{name}");
        }
    }
}

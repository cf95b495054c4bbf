//! A model that plays a script, as a program: agent programs can be tried against it without a key and without a bill.
//!
//! `scripted_model FOLDER` writes the sample repository, which the script fixes, into the folder. It prints one line of
//! JSON with its address, its key and the prompt; then, for every line that it reads, what it would charge for by model,
//! with the requests that it got. It ends with its standard input. Any client with a shell tool can play along.

use std::path::PathBuf;

use pond_server::demo::{SAMPLE_PROMPT, Sample, ScriptedModel, Turn, fixing_script};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Keeps what a sandbox holds: the environment of every process in it, and its home folder.
const LOOK: &str = r#"cd; out=${POND_OUTPUT_DIR:-/tmp}
cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' >"$out/environment.txt"; tar -cf "$out/home.tar" . 2>/dev/null; id"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scratch = tempfile::tempdir()?;
    let folder = std::env::args_os()
        .nth(1)
        .map_or(scratch.path().join("sample"), PathBuf::from);
    let sample = Sample::write(&folder)?;
    let mut script = fixing_script();
    script
        .turns
        .insert(0, Turn::tool("First a look around.", "shell", json!({"command": LOOK})));
    let model = ScriptedModel::start(script).await?;
    let told = json!({"addr": model.addr.to_string(), "base_url": model.base_url(), "key": model.key(),
        "sample": sample.path, "prompt": SAMPLE_PROMPT});
    println!("{told}");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while lines.next_line().await?.is_some() {
        println!("{}", bill(&model));
    }
    Ok(())
}

fn bill(model: &ScriptedModel) -> Value {
    let bills = model.bills().into_iter().map(|(name, bill)| {
        let counts = json!({"calls": bill.calls, "input_tokens": bill.input, "output_tokens": bill.output,
            "cache_read_tokens": bill.cache_read, "cache_write_tokens": bill.cache_write});
        (name, counts)
    });
    let requests: Vec<String> = model.requests().into_iter().map(|request| request.target).collect();
    json!({"models": bills.collect::<Map<_, _>>(), "requests": requests})
}

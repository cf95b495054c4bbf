//! A model that plays a script, as a program: agent programs can be tried against it without a key and without a bill.
//!
//! `scripted_model FOLDER` writes the sample repository, which the script fixes, into the folder. It prints one line of
//! JSON with its address, its key and the prompt; then, for every line that it reads, what it would charge for by model.
//! It ends with its standard input. Any client with a shell tool can play along.

use std::path::PathBuf;

use pond_server::demo::{SAMPLE_PROMPT, Sample, ScriptedModel, Turn, fixing_script};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

/// Asks for a host, and keeps what a sandbox holds: the environment of every process in it, and its home folder.
const LOOK: &str = r#"cd; out=${POND_OUTPUT_DIR:-/tmp}
git ls-remote https://not-allowed.invalid/x; id
cat /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' >"$out/environment.txt"; tar -cf "$out/home.tar" . 2>/dev/null; true"#;

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
    if let Some(last) = script.turns.last_mut() {
        last.text += "\n\n```report\n{\"fixed\": \"src/sum.sh\"}\n```\n";
    }
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
    bills.collect::<Map<_, _>>().into()
}

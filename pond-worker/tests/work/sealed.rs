//! Secrets that no broker takes in hand: a confined job holds tokens, and its proxy swaps them.

use pond_core::outbound::{AllowPrivate, Purpose};
use serde_json::json;

use super::far::{Authority, BOTH, Far};
use super::world::{World, quick};

const VALUE: &str = "the-other-secret-of-it";

#[tokio::test(flavor = "multi_thread")]
async fn c17_86_agents_22_a_confined_job_holds_a_token_and_the_host_gets_the_value() {
    let authority = Authority::new();
    let far = Far::start(&authority, &["127.0.0.1"], &BOTH).await;
    let place = far.address.to_string();
    let world = World::with(quick(), |settings| {
        settings.extra_ca = vec![authority.der()];
        settings.egress_allow_private = AllowPrivate::parse_for(Purpose::Egress, &place).expect("a place");
    })
    .await;
    let credential = json!({"name": "c", "provider": "openai", "hosts": [&place],
        "secrets": {"OPENAI_API_KEY": "sk-the-real-key-0001", "OTHER": VALUE}});
    let record = json!({"key": "m", "provider": "openai", "model_id": "scripted-1", "credential_name": "c"});
    world.model(credential, record).await;
    let harness = json!({"key": "h", "command_template": ["/bin/sh", "-s"], "capability": "harness.shell", "wire": "chat",
        "files": [{"path": "f", "content": "<{{SECRET:OTHER}}>"}]});
    world.harness(harness).await;
    // Loopback is not asked for through a proxy unless one insists.
    let script = format!(
        "cat $HOME/f; echo; echo env $OTHER; cp $HOME/f $POND_OUTPUT_DIR/copy.txt; \
         curl -sS --noproxy '' -x $HTTPS_PROXY -H \"Authorization: Bearer $OTHER\" https://{place}/echo"
    );
    let sandbox = json!({"profile": "untrusted-code-write", "allow_hosts": [&place]});
    let ended = world
        .run(&script, json!({"harness": "h", "model": "m", "sandbox": sandbox}))
        .await;
    ended.is_done();
    let told = ended.text("copy.txt");
    let token = told.trim_matches(['<', '>']).to_owned();
    let digits = token.strip_prefix("pond_sealed_").expect("a token");
    assert!(
        digits.len() == 32 && digits.bytes().all(|digit| b"0123456789abcdef".contains(&digit)),
        "{token}"
    );
    // Tokens are shown, and values are not: none ever came here.
    for line in [
        format!("<{token}>"),
        format!("env {token}"),
        format!("authorization: Bearer {token}"),
    ] {
        assert!(ended.said(&line), "{line}: {:?}", ended.lines);
    }
    assert!(!ended.said("[redacted") && !ended.said(VALUE));
    assert_eq!(far.last().header("authorization"), Some(&*format!("Bearer {VALUE}")));
    world.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c17_86_a_job_that_only_reads_holds_a_token_that_goes_nowhere() {
    let world = World::with(quick(), |_| {}).await;
    let credential = json!({"name": "c", "provider": "openai", "secrets": {"OPENAI_API_KEY": "sk-the-real-key-0001", "OTHER": VALUE}});
    let record = json!({"key": "m", "provider": "openai", "model_id": "scripted-1", "credential_name": "c"});
    world.model(credential, record).await;
    let harness = json!({"key": "h", "command_template": ["/bin/sh", "-s"], "capability": "harness.shell", "wire": "chat",
        "files": [{"path": "f", "content": "<{{SECRET:OTHER}}>"}]});
    world.harness(harness).await;
    let read = json!({"harness": "h", "model": "m", "sandbox": {"profile": "untrusted-code-read"}});
    let ended = world
        .run("cat $HOME/f; echo; echo proxy ${HTTPS_PROXY:-none}", read)
        .await;
    ended.is_done();
    assert!(
        ended.said("<pond_sealed_") && ended.said("proxy none") && !ended.said(VALUE),
        "{:?}",
        ended.lines
    );
    world.close().await;
}

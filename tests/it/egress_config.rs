//! Egress rules on every store, and over the wire.

use futures::TryStreamExt;
use pond_core::Error;
use pond_core::config::{EgressAction, EgressRule, EntryKind, Listing, Owner};
use pond_core::egress::{EgressPolicy, Origin};
use pond_core::outbound::HostPattern;
use pond_sdk::Selection;
use pond_sdk::api::PutEgressRule;
use pond_tests::on_every_store;
use serde_json::{Value, json};

on_every_store! {
    async fn rules_are_known_by_their_host_in_every_spelling_and_a_project_s_shadow_the_org_s(world: World) {
        let config = world.pond.config();
        let project = world.pond.projects().create(&json!({"slug": "acme", "name": "Acme"})).await.unwrap().id;
        let own = Owner::Project(project);
        let first = config.put::<EgressRule>(Owner::Org, &json!({"host": "*.Example.COM."})).await.unwrap();
        assert_eq!((first.created, first.stored.record.host.as_str()), (true, ".example.com"));
        assert_eq!((first.stored.record.action, first.stored.record.upgrade), (EgressAction::Allow, false));
        let again = config.put::<EgressRule>(Owner::Org, &json!({"host": ".example.com", "action": "allow"})).await.unwrap();
        assert!(!again.created && again.stored == first.stored, "one rule, two spellings");
        config.put::<EgressRule>(Owner::Org, &json!({"host": "registry.test:8443", "upgrade": true})).await.unwrap();
        config.put::<EgressRule>(own, &json!({"host": ".example.com", "action": "deny"})).await.unwrap();

        let effective = config.effective(project).await.unwrap().egress();
        let seen: Vec<_> = effective.iter().map(|rule| (rule.record.host.as_str(), rule.record.action, rule.owner)).collect();
        assert_eq!(
            seen,
            [(".example.com", EgressAction::Deny, own), ("registry.test:8443", EgressAction::Allow, Owner::Org)]
        );
        let asked = [HostPattern::parse("asked.test").unwrap()];
        let policy = EgressPolicy::new(effective.iter().map(Into::into), &asked, &[]);
        let origins: Vec<_> = policy.rules().iter().map(|ruled| ruled.from).collect();
        assert_eq!((origins, policy.narrowed()), (vec![Origin::Project, Origin::Org], &asked[..]));
        assert_eq!(config.list::<EgressRule>(Listing::All).await.unwrap().len(), 3);

        let spelt = config.get::<EgressRule>(Some(project), "*.EXAMPLE.com").await.unwrap();
        assert_eq!(spelt.owner, own);
        config.delete(EntryKind::Egress, own, "*.example.com").await.unwrap();
        let gone = config.delete(EntryKind::Egress, own, ".example.com").await;
        assert!(matches!(gone, Err(Error::NotFound(_))), "the org's rule is out of reach of a project's delete");
        assert_eq!(config.get::<EgressRule>(Some(project), ".example.com").await.unwrap().owner, Owner::Org);
    }

    async fn c17_48_what_is_no_host_rule_is_422_and_is_not_repeated(world: World) {
        let server = world.serve().await;
        for host in ["*", "10.0.0.0/8", "https://x", ".com", "*.com", "x:99999", "x/y", "u:CANARY@x", "", "a b"] {
            let (status, told) = server.post("/v1/admin/egress", &json!({"host": host})).await;
            assert_eq!((status, &told["errors"][0]["pointer"]), (422, &json!("/host")), "{host}: {told}");
            assert!(!told.to_string().contains("CANARY"), "{told}");
        }
        for (body, pointer) in [
            (json!({"host": "x.test", "action": "maybe"}), "/action"),
            (json!({"host": "x.test", "upgrade": "yes"}), "/upgrade"),
            (json!({"host": "x.test", "port": 1}), "/port"),
            (json!({}), "/host"),
        ] {
            let (status, told) = server.post("/v1/admin/egress", &body).await;
            assert_eq!((status, &told["errors"][0]["pointer"]), (422, &json!(pointer)), "{told}");
        }
        assert_eq!(server.get("/v1/admin/egress").await.1["rules"], Value::Array(vec![]));
    }

    async fn the_client_sets_lists_and_deletes_rules(world: World) {
        let server = world.serve().await;
        let rules = server.sdk().egress();
        let put = PutEgressRule { host: "*.example.com:8443".into(), ..PutEgressRule::default() };
        let rule = rules.put(&put).await.unwrap();
        assert_eq!((rule.host.as_str(), rule.action.as_str(), rule.upgrade), (".example.com:8443", "allow", false));
        assert_eq!(rules.get("*.example.com:8443", None).await.unwrap(), rule);
        let listed: Vec<_> = rules.list(&Selection::Org).try_collect().await.unwrap();
        assert_eq!(listed, [rule]);
        rules.delete(".EXAMPLE.com:8443", None).await.unwrap();
        let gone: Vec<_> = rules.list(&Selection::Org).try_collect().await.unwrap();
        assert_eq!(gone, []);
    }
}

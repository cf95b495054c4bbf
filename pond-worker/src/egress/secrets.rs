//! The secrets of one sandbox behind their tokens: which token stands for which value, where it may go, and how all of that
//! is changed while connections run.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hyper::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHORIZATION};
use pond_core::egress::{Origin, Place, SealedRule, SealedToken};
use pond_core::entropy::Entropy;
use pond_core::logs::{Marks, Redacting, Redactor};
use pond_core::outbound::Host;
use pond_core::secret::Secret;

use super::swap::{Pair, Swap};

/// Values that were replaced and are still taken out of answers.
const FORMER: usize = 32;

/// A secret that goes out by a token.
#[derive(Debug, Clone)]
pub struct SealedSecret {
    /// What stands for it in the sandbox.
    pub token: SealedToken,
    /// Where it may go.
    pub rule: SealedRule,
    /// The secret.
    pub value: Secret,
}

impl SealedSecret {
    /// Seals a secret by a fresh token.
    pub fn seal(entropy: &dyn Entropy, rule: SealedRule, value: Secret) -> Self {
        let token = SealedToken::mint(entropy);
        Self { token, rule, value }
    }
}

/// A place that a request goes to, and by whose rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Goal {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) origin: Origin,
}

/// The secrets of one sandbox. What is changed holds for the next request.
pub struct SealedSecrets {
    known: RwLock<Arc<Known>>,
    /// Held while a change is worked out.
    changing: Mutex<VecDeque<(SealedToken, Secret)>>,
}

impl fmt::Debug for SealedSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedSecrets").finish_non_exhaustive()
    }
}

impl SealedSecrets {
    /// These secrets.
    pub fn new(secrets: impl IntoIterator<Item = SealedSecret>) -> Self {
        let slots = secrets.into_iter().map(|secret| Slot {
            rule: secret.rule,
            live: true,
            pair: Arc::new(Pair {
                token: secret.token,
                value: secret.value,
            }),
        });
        Self {
            known: RwLock::new(Arc::new(Known::new(slots.collect(), &VecDeque::new()))),
            changing: Mutex::default(),
        }
    }

    /// The variables that hold tokens.
    pub fn tokens(&self) -> Vec<(String, SealedToken)> {
        let known = self.now();
        let token = |slot: &Slot| (slot.rule.name.clone(), slot.pair.token.clone());
        known.slots.iter().map(token).collect()
    }

    /// Puts another value and rule behind the token that the sandbox has under the rule's name, and tells whether there is
    /// one: a secret that came later has no token here.
    pub fn update(&self, rule: SealedRule, value: Secret) -> bool {
        let name = rule.name.clone();
        self.change(&name, |slot| {
            slot.rule = rule;
            slot.live = true;
            slot.pair = Arc::new(Pair {
                token: slot.pair.token.clone(),
                value,
            });
        })
    }

    /// Ends the swap of this secret's token, and tells whether there was one.
    pub fn remove(&self, name: &str) -> bool {
        self.change(name, |slot| slot.live = false)
    }

    fn change(&self, name: &str, change: impl FnOnce(&mut Slot)) -> bool {
        let mut former = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut slots = self.now().slots.clone();
        let Some(slot) = slots.iter_mut().find(|slot| slot.rule.name == name) else {
            return false;
        };
        let before = Arc::clone(&slot.pair);
        change(slot);
        if !Arc::ptr_eq(&before, &slot.pair) {
            former.push_back((before.token.clone(), before.value.clone()));
            if former.len() > FORMER {
                former.pop_front();
            }
        }
        let known = Arc::new(Known::new(slots, &former));
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        true
    }

    /// What holds now.
    pub(super) fn now(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[derive(Debug, Clone)]
struct Slot {
    rule: SealedRule,
    /// Whether the token is swapped.
    live: bool,
    pair: Arc<Pair>,
}

impl Slot {
    fn goes_to(&self, goal: &Goal) -> bool {
        self.live
            && !self.rule.places.is_empty()
            && match self.rule.hosts.is_empty() {
                true => goal.origin != Origin::Default,
                false => self.rule.hosts.iter().any(|host| host.admits(&goal.host, goal.port)),
            }
    }
}

/// What holds at one time.
pub(super) struct Known {
    slots: Vec<Slot>,
    scrub: Scrub,
}

impl Known {
    fn new(slots: Vec<Slot>, former: &VecDeque<(SealedToken, Secret)>) -> Self {
        let live = slots.iter().map(|slot| (slot.pair.token.as_str(), &slot.pair.value));
        let former = former.iter().map(|(token, value)| (token.as_str(), value));
        let scrub = Scrub::new(live.chain(former));
        Self { slots, scrub }
    }

    /// Whether any secret goes there.
    pub(super) fn reaches(&self, goal: &Goal) -> bool {
        self.slots.iter().any(|slot| slot.goes_to(goal))
    }

    /// What is swapped on the way there.
    pub(super) fn toward(&self, goal: &Goal) -> Way {
        let slots = self.slots.iter().filter(|slot| slot.goes_to(goal));
        let secrets = slots.map(|slot| (slot.rule.places.clone(), Arc::clone(&slot.pair)));
        Way(secrets.collect())
    }

    /// What is taken out of answers.
    pub(super) fn scrub(&self) -> &Scrub {
        &self.scrub
    }
}

/// The secrets that go to one goal.
#[derive(Debug)]
pub(super) struct Way(Vec<(Vec<Place>, Arc<Pair>)>);

/// A value that cannot stand in a header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit(pub(super) HeaderName);

impl Way {
    /// Puts values in place of the tokens of the headers that their places cover.
    pub(super) fn fill(&self, headers: &mut HeaderMap) -> Result<(), Unfit> {
        for name in headers.keys().cloned().collect::<Vec<_>>() {
            let swap = self.header(&name);
            if swap.is_empty() {
                continue;
            }
            for value in headers.get_all(&name).iter().cloned().enumerate().collect::<Vec<_>>() {
                let (at, value) = value;
                let swapped = match name {
                    AUTHORIZATION => swap.authorization(value.as_bytes()),
                    _ => swap.text(value.as_bytes()),
                };
                let Some(swapped) = swapped else { continue };
                let mut swapped = HeaderValue::from_bytes(&swapped).map_err(|_| Unfit(name.clone()))?;
                swapped.set_sensitive(true);
                if let Some(slot) = headers_at(headers, &name, at) {
                    *slot = swapped;
                }
            }
        }
        Ok(())
    }

    /// What is replaced in bodies.
    pub(super) fn body(&self) -> Swap {
        self.swap(|place| *place == Place::Body)
    }

    fn header(&self, name: &HeaderName) -> Swap {
        // Whatever a rule says: it is for proxies on the way, not for the far side.
        match *name == PROXY_AUTHORIZATION {
            true => Swap::default(),
            false => self.swap(|place| place.covers_header(name.as_str())),
        }
    }

    fn swap(&self, covers: impl Fn(&Place) -> bool) -> Swap {
        let fits = self.0.iter().filter(|(places, _)| places.iter().any(&covers));
        fits.map(|(_, pair)| Arc::clone(pair)).collect()
    }
}

fn headers_at<'h>(headers: &'h mut HeaderMap, name: &HeaderName, at: usize) -> Option<&'h mut HeaderValue> {
    match headers.entry(name) {
        hyper::http::header::Entry::Occupied(entry) => entry.into_iter().nth(at),
        hyper::http::header::Entry::Vacant(_) => None,
    }
}

/// Takes values out of answers, back to their tokens, in every form that redaction knows.
#[derive(Clone)]
pub(super) struct Scrub {
    back: Redactor,
    /// As a header's name would spell them.
    lower: Arc<[zeroize::Zeroizing<Vec<u8>>]>,
}

impl Scrub {
    fn new<'a>(known: impl Iterator<Item = (&'a str, &'a Secret)> + Clone) -> Self {
        let lower = known.clone().map(|(_, value)| value.expose());
        let lower = lower.filter(|value| value.len() >= pond_core::config::MIN_REDACTABLE);
        Self {
            lower: lower
                .map(|value| zeroize::Zeroizing::new(value.to_ascii_lowercase().into_bytes()))
                .collect(),
            back: Redactor::back(known),
        }
    }

    /// Starts on a body.
    pub(super) fn stream(&self) -> Redacting {
        self.back.stream(Marks::Bare)
    }

    /// Headers or trailers without values.
    pub(super) fn headers(&self, headers: &HeaderMap) -> HeaderMap {
        let mut clean = HeaderMap::with_capacity(headers.len());
        for (name, value) in headers {
            if self.is_named(name) {
                continue;
            }
            let mut stream = self.stream();
            let mut out = Vec::with_capacity(value.len());
            stream.push(value.as_bytes(), &mut out);
            stream.finish(&mut out);
            // A token is fit for a header, and so is what stood around it.
            if let Ok(value) = HeaderValue::from_bytes(&out) {
                clean.append(name, value);
            }
        }
        clean
    }

    fn is_named(&self, name: &HeaderName) -> bool {
        let holds =
            |value: &zeroize::Zeroizing<Vec<u8>>| memchr::memmem::find(name.as_str().as_bytes(), value).is_some();
        self.lower.iter().any(holds)
    }
}

#[cfg(test)]
mod tests {
    use pond_core::outbound::HostPattern;
    use pond_core::testing::SeededEntropy;

    use super::*;

    fn rule(name: &str, hosts: &[&str], places: &[&str]) -> SealedRule {
        SealedRule {
            name: name.into(),
            hosts: hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
            places: places.iter().map(|place| Place::parse(place).unwrap()).collect(),
        }
    }

    fn secrets(rules: &[SealedRule]) -> (SealedSecrets, Vec<String>) {
        let entropy = SeededEntropy::new(3);
        let sealed: Vec<_> = rules
            .iter()
            .map(|rule| SealedSecret::seal(&entropy, rule.clone(), Secret::new(format!("value-of-{}", rule.name))))
            .collect();
        let tokens = sealed.iter().map(|secret| secret.token.as_str().to_owned()).collect();
        (SealedSecrets::new(sealed), tokens)
    }

    fn goal(host: &str, port: u16, origin: Origin) -> Goal {
        let host = Host::parse(host).unwrap();
        Goal { host, port, origin }
    }

    #[test]
    fn agents_23_54_a_secret_goes_to_the_hosts_and_ports_of_its_rule() {
        let (secrets, _) = secrets(&[
            rule("A", &["x.test:8443", "*.b.test"], &["header"]),
            rule("B", &[], &["header"]),
        ]);
        for (host, port, origin, expected) in [
            ("x.test", 8443, Origin::Run, 2),
            ("x.test", 443, Origin::Run, 1),
            ("a.B.test", 443, Origin::Run, 2),
            ("a.b.test", 443, Origin::Default, 1),
            ("b.test", 443, Origin::Default, 0),
            ("xb.test", 443, Origin::Default, 0),
            ("registry.test", 443, Origin::Default, 0),
            ("admins.test", 443, Origin::Org, 1),
            ("admins.test", 443, Origin::Project, 1),
        ] {
            let goal = goal(host, port, origin);
            assert_eq!(
                secrets.now().toward(&goal).0.len(),
                expected,
                "{host}:{port} {origin:?}"
            );
            assert_eq!(secrets.now().reaches(&goal), expected > 0);
        }
    }

    #[test]
    fn agents_22_52_places_decide_which_headers_are_filled() {
        let (secrets, tokens) = secrets(&[rule("A", &[], &["header", "header:X-Own"]), rule("B", &[], &["body"])]);
        let way = secrets.now().toward(&goal("x.test", 443, Origin::Run));
        let both = format!("{} {}", tokens[0], tokens[1]);
        let mut headers = HeaderMap::new();
        for name in ["authorization", "cookie", "x-own", "accept", "proxy-authorization"] {
            headers.append(HeaderName::from_static(name), both.parse().unwrap());
            headers.append(HeaderName::from_static(name), tokens[0].parse().unwrap());
        }
        way.fill(&mut headers).unwrap();
        for (name, filled) in [
            ("authorization", true),
            ("cookie", true),
            ("x-own", true),
            ("accept", false),
            ("proxy-authorization", false),
        ] {
            let first = if filled { "value-of-A" } else { &*tokens[0] };
            let told: Vec<_> = headers
                .get_all(name)
                .iter()
                .map(|value| value.to_str().unwrap())
                .collect();
            assert_eq!(told, [format!("{first} {}", tokens[1]), first.to_owned()], "{name}");
        }
        assert_eq!(
            &**way.body().text(both.as_bytes()).unwrap(),
            format!("{} value-of-B", tokens[0]).as_bytes()
        );
    }

    #[test]
    fn a_value_that_fits_in_no_header_goes_nowhere() {
        let (secrets, tokens) = secrets(&[rule("A", &[], &["header"])]);
        secrets.update(rule("A", &[], &["header"]), Secret::new("two\nlines"));
        let way = secrets.now().toward(&goal("x.test", 443, Origin::Run));
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, tokens[0].parse().unwrap());
        assert_eq!(way.fill(&mut headers), Err(Unfit(AUTHORIZATION)));
        assert_eq!(headers[AUTHORIZATION], tokens[0]);
    }

    #[test]
    fn agents_27_a_change_holds_for_the_next_request_under_the_same_token() {
        let (secrets, tokens) = secrets(&[rule("A", &[], &["header"])]);
        let wide = goal("x.test", 443, Origin::Run);
        let before = secrets.now();
        assert!(secrets.update(rule("A", &["y.test"], &["body"]), Secret::new("the-next-value")));
        assert!(!secrets.update(rule("LATER", &[], &["header"]), Secret::new("unheard-of")));
        assert!(before.reaches(&wide) && !secrets.now().reaches(&wide));
        let narrow = goal("y.test", 443, Origin::Run);
        let swapped = secrets.now().toward(&narrow).body().text(tokens[0].as_bytes());
        assert_eq!(&**swapped.unwrap(), b"the-next-value");
        let mut headers = HeaderMap::new();
        headers.insert("x-echo", "value-of-A the-next-value".parse().unwrap());
        headers.insert(HeaderName::from_static("x-the-next-value"), "1".parse().unwrap());
        let clean = secrets.now().scrub().headers(&headers);
        assert_eq!(clean["x-echo"], format!("{0} {0}", tokens[0]), "the former value too");
        assert_eq!(clean.len(), 1);
        assert!(secrets.remove("A") && !secrets.now().reaches(&narrow));
        assert_eq!(secrets.tokens()[0].1.as_str(), tokens[0]);
        let clean = secrets.now().scrub().headers(&headers);
        assert_eq!(
            clean["x-echo"],
            format!("{0} {0}", tokens[0]),
            "also when it is swapped no more"
        );
        assert!(secrets.update(rule("A", &[], &["header"]), Secret::new("the-next-value")));
        assert!(secrets.now().reaches(&wide));
    }
}

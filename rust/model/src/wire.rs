//! The API server's answers, taken apart: what names each object and its version is read, the object itself is not,
//! save for the kinds of which only a few fields matter, which are cut to those.
//!
//! Source: Kubernetes API concepts, "Efficient detection of changes" and "Streaming lists".

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    EndpointSlice, Kind, KubernetesNamespace, KubernetesNode, KubernetesPod, KubernetesService,
};

/// One object as a list or a watch event has it, or one notice of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WireEvent {
    /// `ADDED`, `MODIFIED`, `DELETED`, `BOOKMARK`, `ERROR`; of a list always `ADDED`.
    pub event_type: String,
    /// "" for cluster-scoped kinds, and for `BOOKMARK` and `ERROR`.
    pub namespace: String,
    /// "" for `BOOKMARK` and `ERROR`.
    pub name: String,
    /// From which a watch goes on.
    pub resource_version: String,
    /// The label `istio.io/rev`, or "".
    pub revision: String,
    /// Counts the changes of the specification; 0 for kinds that don't.
    pub generation: i64,
    /// Whether all objects of a streaming list came before this `BOOKMARK`.
    pub is_initial_end: bool,
    /// The object's JSON; of an `ERROR` the Status.
    pub payload: Vec<u8>,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WirePage {
    /// Of the list, the same on every page.
    pub resource_version: String,
    /// Asks for the next page; "" on the last.
    pub continue_token: String,
    /// The objects, all `ADDED`.
    pub items: Vec<WireEvent>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct Head<'a> {
    #[serde(borrow)]
    metadata: HeadMetadata<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct HeadMetadata<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    namespace: Cow<'a, str>,
    #[serde(borrow)]
    resource_version: Cow<'a, str>,
    generation: i64,
    #[serde(borrow)]
    labels: Option<HeadLabels<'a>>,
    #[serde(borrow)]
    annotations: Option<HeadAnnotations<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HeadLabels<'a> {
    #[serde(borrow, rename = "istio.io/rev")]
    revision: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct HeadAnnotations<'a> {
    #[serde(borrow, rename = "k8s.io/initial-events-end")]
    initial_events_end: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: ListMetadata,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    continue_token: String,
}

/// Read whole lines of a watch, each one event.
///
/// # Errors
/// A line is no event; the watch has to begin anew.
pub fn read_watch(kind: Option<Kind>, lines: &[u8]) -> Result<Vec<WireEvent>, serde_json::Error> {
    lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty())
        .map(|line| {
            let line: Line<'_> = serde_json::from_slice(line)?;
            read_event(kind, &line.event_type, line.object)
        })
        .collect()
}

/// Read one page of a list.
///
/// # Errors
/// It is no list.
pub fn read_page(kind: Option<Kind>, body: &[u8]) -> Result<WirePage, serde_json::Error> {
    let list: List<'_> = serde_json::from_slice(body)?;
    let items = list.items.unwrap_or_default();
    Ok(WirePage {
        resource_version: list.metadata.resource_version,
        continue_token: list.metadata.continue_token,
        items: items
            .into_iter()
            .map(|item| read_event(kind, "ADDED", item))
            .collect::<Result<_, _>>()?,
    })
}

fn read_event(
    kind: Option<Kind>,
    event_type: &str,
    object: &RawValue,
) -> Result<WireEvent, serde_json::Error> {
    let metadata = serde_json::from_str::<Head<'_>>(object.get())?.metadata;
    let is_object = !matches!(event_type, "BOOKMARK" | "ERROR");
    let payload = match (event_type, kind) {
        ("BOOKMARK" | "DELETED", _) => Vec::new(),
        ("ERROR", _) | (_, None) => object.get().as_bytes().to_vec(),
        (_, Some(kind)) => cut(kind, object.get()),
    };
    let ended = metadata.annotations.unwrap_or_default().initial_events_end;
    let text = |text: Cow<'_, str>| {
        if is_object {
            text.into_owned()
        } else {
            String::new()
        }
    };
    Ok(WireEvent {
        event_type: event_type.to_owned(),
        namespace: text(metadata.namespace),
        name: text(metadata.name),
        resource_version: metadata.resource_version.into_owned(),
        revision: metadata.labels.unwrap_or_default().revision.into_owned(),
        generation: metadata.generation,
        is_initial_end: ended == "true",
        payload,
    })
}

/// The JSON of an object, of the kinds that come in thousands only with the fields that the mesh reads.
///
/// One that does not fit its type stays as it is: the store says what is wrong with it.
fn cut(kind: Kind, text: &str) -> Vec<u8> {
    let cut = match kind {
        Kind::Pod => rewrite::<KubernetesPod>(text, |pod| &mut pod.metadata.common),
        Kind::Service => rewrite::<KubernetesService>(text, |service| &mut service.metadata),
        Kind::EndpointSlice => rewrite::<EndpointSlice>(text, |slice| &mut slice.metadata),
        Kind::Node => rewrite::<KubernetesNode>(text, |node| &mut node.metadata),
        Kind::Namespace => {
            rewrite::<KubernetesNamespace>(text, |namespace| &mut namespace.metadata)
        }
        _ => None,
    };
    cut.unwrap_or_else(|| text.as_bytes().to_vec())
}

/// Decode and encode again; annotations that are not Istio's say nothing to a mesh, and change often.
fn rewrite<T: for<'de> Deserialize<'de> + Serialize>(
    text: &str,
    metadata: impl Fn(&mut T) -> &mut crate::Metadata,
) -> Option<Vec<u8>> {
    let mut object: T = serde_json::from_str(text).ok()?;
    let annotations = &mut metadata(&mut object).annotations;
    annotations.retain(|key, _| key.contains("istio.io/"));
    serde_json::to_vec(&object).ok()
}

#[cfg(test)]
mod tests {
    use super::{read_page, read_watch};
    use crate::{ConfigKey, Kind, Object, decode_object};

    const POD: &str = r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"n",
        "resourceVersion":"7","creationTimestamp":"2023-11-14T22:13:20Z","generateName":"a-",
        "labels":{"app":"a"},"annotations":{"example.org/x":"1","sidecar.istio.io/inject":"true"},
        "managedFields":[{"manager":"name","fieldsV1":{"f:metadata":{"name":"wrong"}}}],
        "ownerReferences":[{"kind":"ReplicaSet","name":"a-1","controller":true,"uid":"u"}]},
        "spec":{"nodeName":"node","serviceAccountName":"sa","containers":[{"name":"c","image":"i",
        "ports":[{"name":"http","containerPort":80,"protocol":"TCP"}]}]},
        "status":{"phase":"Running","podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"}],
        "conditions":[{"type":"Ready","status":"True","lastProbeTime":null}]}}"#;

    fn one_line(text: &str) -> String {
        text.replace('\n', " ")
    }

    #[test]
    fn a_cut_object_decodes_to_the_same_value() {
        let line = format!("{{\"type\":\"ADDED\",\"object\":{}}}\n", one_line(POD));
        let events = read_watch(Some(Kind::Pod), line.as_bytes()).unwrap();
        let [event] = &events[..] else {
            panic!("{events:?}")
        };
        let read =
            |payload: &[u8]| match decode_object(&ConfigKey::new(Kind::Pod, "n", "a"), payload)
                .unwrap()
            {
                Object::Pod(pod) => pod,
                other => panic!("{other:?}"),
            };
        let mut whole = read(POD.as_bytes());
        whole.metadata.common.annotations.remove("example.org/x");
        assert_eq!(read(&event.payload), whole);
        assert!(event.payload.len() < POD.len() / 2 + 200);
        assert_eq!((&*event.namespace, &*event.name), ("n", "a"));
        assert_eq!(event.resource_version, "7");
    }

    #[test]
    fn what_names_an_object_is_found_where_it_stands_and_not_in_other_fields() {
        let line = concat!(
            r#"{"type":"MODIFIED","object":{"spec":{"metadata":{"name":"x"}},"apiVersion":"v1","metadata":"#,
            r#"{"annotations":{"name":"wrong","namespace":"wrong"},"labels":{"istio.io/rev":"canary"},"#,
            r#""name":"r\u0065al","namespace":"n","resourceVersion":"9","generation":3}}}"#,
            "\n\n",
            r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"12","#,
            r#""annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
            "\n",
            r#"{"type":"ERROR","object":{"kind":"Status","metadata":{},"code":410}}"#,
        );
        let events = read_watch(None, line.as_bytes()).unwrap();
        assert_eq!(events.len(), 3);
        assert_eq!((&*events[0].name, &*events[0].namespace), ("real", "n"));
        assert_eq!((&*events[0].revision, events[0].generation), ("canary", 3));
        assert!(events[0].payload.starts_with(b"{\"spec\""));
        assert!(events[1].is_initial_end && events[1].resource_version == "12");
        assert!(events[2].payload.ends_with(b"410}") && !events[2].is_initial_end);
    }

    #[test]
    fn a_page_gives_its_items_and_the_way_to_the_next() {
        let body = format!(
            r#"{{"kind":"List","metadata":{{"resourceVersion":"5","continue":"c"}},"items":[{POD},{POD}]}}"#
        );
        let page = read_page(Some(Kind::Pod), body.as_bytes()).unwrap();
        assert_eq!((page.items.len(), &*page.continue_token), (2, "c"));
        assert_eq!(page.resource_version, "5");
        let empty = read_page(
            None,
            br#"{"metadata":{"resourceVersion":"1"},"items":null}"#,
        )
        .unwrap();
        assert!(empty.items.is_empty() && empty.continue_token.is_empty());
        assert!(read_page(None, b"<html>").is_err());
        assert!(read_watch(None, b"{\"type\":\"ADDED\"}").is_err());
    }

    #[test]
    fn what_does_not_fit_its_type_stays_as_it_is() {
        let line =
            br#"{"type":"ADDED","object":{"metadata":{"name":"a"},"spec":{"ports":"none"}}}"#;
        let events = read_watch(Some(Kind::Service), line).unwrap();
        assert_eq!(
            events[0].payload,
            br#"{"metadata":{"name":"a"},"spec":{"ports":"none"}}"#
        );
    }
}

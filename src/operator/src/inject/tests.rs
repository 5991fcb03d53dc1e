use super::*;
use k8s_openapi::api::core::v1::Pod;
use proptest::prelude::*;
use serde_json::{Value, json};

fn settings() -> Settings {
    serde_yaml_ng::from_str(
        r#"
filterImage: ghcr.io/tollgate-dev/tollgate-filter:0.1.0
envoyImage: docker.io/envoyproxy/envoy:distroless-v1.40.0
ingress: https://tollgate-gateway.tollgate.svc
ledger: tollgate-ledger.tollgate.svc:4001
directNamespaces: [ci]
providers:
  anthropic: { secret: anthropic }
  openai: { secret: openai, entry: key, url: "https://openai.example.com" }
authorities: { configMap: company-authorities, entry: all.pem }
resources:
  requests: { cpu: 50m, memory: 96Mi }
  limits: { memory: 384Mi }
"#,
    )
    .unwrap()
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "agent",
            "labels": { "tollgate.dev/inject": "true" },
            "annotations": { "tollgate.dev/key": "alice" },
        },
        "spec": { "containers": [{ "name": "agent", "image": "agent:1", "futureField": { "kept": true } }] },
    })
}

fn injected(pod: &Value, namespace: &str) -> Result<Value, Refusal> {
    let mut done = pod.clone();
    json_patch::patch(&mut done, &inject(pod, namespace, &settings())?).unwrap();
    Ok(done)
}

/// Sets something in a copy of the pod, whatever was there before.
fn with(path: &str, value: Value) -> Value {
    let mut pod = pod();
    let (parent, name) = path.rsplit_once('/').unwrap();
    let parent = pod.pointer_mut(parent).unwrap();
    match parent {
        Value::Array(all) => all.push(value),
        parent => parent[name] = value,
    }
    pod
}

#[test]
fn a_pod_that_could_not_keep_the_key_is_refused_by_a_sentence() {
    let container = |container: Value| with("/spec/containers/-", container);
    let table = [
        (with("/metadata/annotations", json!({})), Refusal::NoKey),
        (with("/metadata/annotations", json!({ KEY: "" })), Refusal::NoKey),
        (with("/metadata/annotations", json!({ KEY: "Alice" })), Refusal::KeyName("Alice".into())),
        (with("/metadata/annotations", json!({ KEY: "../alice" })), Refusal::KeyName("../alice".into())),
        (with("/metadata/annotations", json!({ KEY: "alice", MODE: "both" })), Refusal::Mode("both".into())),
        (
            with("/metadata/annotations", json!({ KEY: "alice", MODE: "direct" })),
            Refusal::Direct("payments".into()),
        ),
        (with("/spec/shareProcessNamespace", json!(true)), Refusal::ShareProcessNamespace),
        (with("/spec/hostNetwork", json!(true)), Refusal::Host("hostNetwork")),
        (with("/spec/hostPID", json!(true)), Refusal::Host("hostPID")),
        (with("/spec/hostIPC", json!(true)), Refusal::Host("hostIPC")),
        (with("/spec/ephemeralContainers", json!([{ "name": "debug" }])), Refusal::Ephemeral),
        (
            with("/spec/volumes", json!([{ "name": "tollgate-key", "emptyDir": {} }])),
            Refusal::Name("volume", "tollgate-key".into()),
        ),
        (
            container(json!({ "name": "tollgate-sidecar" })),
            Refusal::Name("container", "tollgate-sidecar".into()),
        ),
        (
            with("/spec/initContainers", json!([{ "name": "tollgate-filter" }])),
            Refusal::Name("container", "tollgate-filter".into()),
        ),
        (
            container(
                json!({ "name": "thief", "volumeMounts": [{ "name": "tollgate-key", "mountPath": "/key" }] }),
            ),
            Refusal::Mounts("thief".into(), "tollgate-key".into()),
        ),
        (
            with(
                "/spec/initContainers",
                json!([{ "name": "thief", "volumeDevices": [{ "name": "tollgate-run", "devicePath": "/dev/x" }] }]),
            ),
            Refusal::Mounts("thief".into(), "tollgate-run".into()),
        ),
        (
            container(json!({ "name": "web", "ports": [{ "containerPort": 4000 }] })),
            Refusal::Port("web".into(), 4000),
        ),
        (
            container(json!({ "name": "web", "ports": [{ "containerPort": 4003 }] })),
            Refusal::Port("web".into(), 4003),
        ),
    ];
    for (pod, expected) in table {
        assert_eq!(injected(&pod, "payments").unwrap_err(), expected);
    }
    // What the sidecar is told is not the pod's to say.
    let told = with("/metadata/annotations", json!({ KEY: "alice", SIDECAR: "something else" }));
    assert_eq!(injected(&told, "payments").unwrap(), injected(&pod(), "payments").unwrap());
    assert!(matches!(injected(&json!({ "spec": { "containers": 7 } }), "x"), Err(Refusal::Malformed(_))));
}

#[test]
fn a_pod_that_only_looks_injected_is_refused() {
    let good = injected(&pod(), "payments").unwrap();
    let spoil = |path: &str, value: Value| {
        let mut pod = good.clone();
        *pod.pointer_mut(path).unwrap() = value;
        pod
    };
    let volume = || Refusal::Name("volume", "tollgate-bin".into());
    let mut thief = good.clone();
    thief["spec"]["containers"][0]["volumeMounts"] = json!([{ "name": "tollgate-key", "mountPath": "/key" }]);
    for pod in [
        spoil("/spec/initContainers/1/image", json!("my/envoy")),
        spoil("/spec/initContainers/1/args", json!([])),
        spoil("/spec/volumes/3/secret/secretName", json!("bobs")),
        spoil("/metadata/annotations/tollgate.dev~1sidecar", json!("{}")),
        thief,
    ] {
        assert_eq!(injected(&pod, "payments").unwrap_err(), volume());
    }
}

/// The API server fills in what was left out, and gives every container a token.
#[test]
fn what_others_add_to_an_injected_pod_does_no_harm() {
    let mut pod = injected(&pod(), "payments").unwrap();
    pod["spec"]["volumes"]
        .as_array_mut()
        .unwrap()
        .push(json!({ "name": "kube-api-access", "projected": {} }));
    for container in pod["spec"]["initContainers"].as_array_mut().unwrap() {
        container["terminationMessagePath"] = json!("/dev/termination-log");
        let token = json!({ "name": "kube-api-access", "mountPath": "/var/run/secrets", "readOnly": true });
        container["volumeMounts"].as_array_mut().unwrap().push(token);
    }
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(
        0,
        json!({ "name": "mesh", "env":
        good_environment() }),
    );
    pod["spec"]["initContainers"][2]["startupProbe"]["successThreshold"] = json!(1);
    assert_eq!(injected(&pod, "payments").unwrap(), pod);
}

/// As a later webhook leaves a pod, before ours is asked again.
#[test]
fn a_container_that_came_after_the_sidecar_is_led_to_it_too() {
    let mut pod = injected(&pod(), "payments").unwrap();
    let with_late =
        |pod: &mut Value, late: Value| pod["spec"]["containers"].as_array_mut().unwrap().push(late);
    for container in pod["spec"]["initContainers"].as_array_mut().unwrap() {
        container["imagePullPolicy"] = json!("Always");
        container["resources"] = json!({ "limits": { "memory": "1Gi" } });
    }
    pod["spec"]["initContainers"].as_array_mut().unwrap().push(json!({ "name": "late-init" }));
    pod["spec"]["containers"][0]["env"][0]["value"] = json!("https://elsewhere");
    let mut bad = pod.clone();
    with_late(&mut pod, json!({ "name": "late", "env": [{ "name": "OPENAI_API_KEY", "value": "own" }] }));
    let done = injected(&pod, "payments").unwrap();
    for container in
        [&done["spec"]["initContainers"][2], &done["spec"]["containers"][0], &done["spec"]["containers"][1]]
    {
        let env = container["env"].as_array().unwrap();
        let expected = good_environment();
        assert_eq!(env.len(), 4, "{container}");
        assert!(expected.as_array().unwrap().iter().all(|one| env.contains(one)), "{container}");
    }
    for untouched in ["/metadata", "/spec/volumes", "/spec/initContainers/0", "/spec/initContainers/1"] {
        assert_eq!(done.pointer(untouched), pod.pointer(untouched), "{untouched}");
    }
    assert_eq!(injected(&done, "payments").unwrap(), done);
    // It is judged like the others.
    with_late(
        &mut bad,
        json!({ "name": "thief", "volumeMounts": [{ "name": "tollgate-key", "mountPath": "/key" }] }),
    );
    assert!(injected(&bad, "payments").is_err());
}

fn good_environment() -> Value {
    injected(&pod(), "payments").unwrap()["spec"]["containers"][0]["env"].clone()
}

#[test]
fn only_the_sidecar_mounts_what_is_secret() {
    let mut pod = pod();
    pod["metadata"]["annotations"][MODE] = json!("direct");
    pod["spec"]["initContainers"] = json!([{ "name": "first", "image": "x" }]);
    let done = injected(&pod, "ci").unwrap();
    serde_json::from_value::<Pod>(done.clone()).unwrap();
    let secret: Vec<_> =
        done["spec"]["volumes"].as_array().unwrap().iter().filter(|v| v["secret"].is_object()).collect();
    assert_eq!(secret.len(), 4);
    for list in ["initContainers", "containers"] {
        for container in done["spec"][list].as_array().unwrap() {
            let mounts = container["volumeMounts"].as_array().into_iter().flatten();
            let mut mounts =
                mounts.filter(|mount| secret.iter().any(|volume| volume["name"] == mount["name"]));
            assert_eq!(mounts.next().is_some(), container["name"] == "tollgate-sidecar", "{container}");
        }
    }
    let names = |list: &str| {
        let all = done["spec"][list].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("initContainers"), ["tollgate-filter", "tollgate-sidecar", "first"]);
}

#[test]
fn a_container_is_led_to_the_sidecar_whatever_it_said() {
    let mut pod = pod();
    pod["spec"]["containers"][0]["env"] = json!([
        { "name": "PATH", "value": "/bin" },
        { "name": "ANTHROPIC_BASE_URL", "value": "https://api.anthropic.com" },
        { "name": "OPENAI_API_KEY", "valueFrom": { "secretKeyRef": { "name": "mine", "key": "k" } } },
        { "name": "ANTHROPIC_BASE_URL", "value": "https://elsewhere" },
    ]);
    let done = injected(&pod, "payments").unwrap();
    let url = json!({ "name": "ANTHROPIC_BASE_URL", "value": "http://127.0.0.1:4000" });
    let placeholder = |name: &str| json!({ "name": name, "value": "tollgate-sidecar" });
    let expected = json!([
        { "name": "PATH", "value": "/bin" },
        url,
        placeholder("OPENAI_API_KEY"),
        url,
        placeholder("ANTHROPIC_API_KEY"),
        { "name": "OPENAI_BASE_URL", "value": "http://127.0.0.1:4000/v1" },
    ]);
    assert_eq!(done["spec"]["containers"][0]["env"], expected);
    assert_eq!(done["spec"]["containers"][0]["futureField"], json!({ "kept": true }));
}

/// After a change that is meant: `TOLLGATE_BLESS=1`.
#[test]
fn jobs_and_deployments_are_as_they_were_published() {
    for name in ["job", "deployment", "cronjob-direct"] {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/inject/golden");
        let given = std::fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
        let done = inject_documents(&given, "ci", &settings()).unwrap();
        let path = folder.join(format!("{name}.injected.yaml"));
        if std::env::var_os("TOLLGATE_BLESS").is_some() {
            std::fs::write(&path, &done).unwrap();
        }
        let published = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(done, published, "{} differs; TOLLGATE_BLESS=1 writes it anew", path.display());
        assert_eq!(inject_documents(&done, "ci", &settings()).unwrap(), done, "twice is once");
    }
}

/// By what a sidecar knows the ingress, under either name of the setting.
#[test]
fn authorities_come_along_with_the_key_where_the_page_says_so() {
    let page = "filterImage: f\nenvoyImage: e\ningress: https://tollgate.example.com\nledger: l:4001\n";
    let with_key = (json!("/run/tollgate/key/ca.crt"), vec!["ANTHROPIC_API_KEY", "ca.crt"]);
    let without = (json!("/etc/ssl/certs/ca-certificates.crt"), vec!["ANTHROPIC_API_KEY"]);
    for (line, expected) in [
        ("", &with_key),
        ("authoritiesWithKey: true", &with_key),
        ("authoritiesWithKey: false", &without),
        ("ownAuthority: false", &without),
    ] {
        let settings: Settings = serde_yaml_ng::from_str(&format!("{page}{line}")).unwrap();
        let mut done = pod();
        json_patch::patch(&mut done, &inject(&pod(), "payments", &settings).unwrap()).unwrap();
        let told: Value =
            serde_json::from_str(done["metadata"]["annotations"][SIDECAR].as_str().unwrap()).unwrap();
        assert_eq!(told["upstream"]["ca"], expected.0, "{line}");
        let volumes = done["spec"]["volumes"].as_array().unwrap();
        let key = volumes.iter().find(|volume| volume["name"] == "tollgate-key").unwrap();
        let entries: Vec<_> =
            key["secret"]["items"].as_array().unwrap().iter().map(|item| &item["key"]).collect();
        assert_eq!(entries, expected.1, "{line}");
    }
}

/// The file that the supervisor is told of is the one that is mounted, and only where providers are called.
#[test]
fn providers_are_believed_as_at_the_ingress() {
    let place = "/run/tollgate/authorities";
    for (mode, told, mounted) in
        [("identity", Value::Null, None), ("direct", json!(format!("{place}/all.pem")), Some(place))]
    {
        let done =
            injected(&with("/metadata/annotations", json!({ KEY: "alice", MODE: mode })), "ci").unwrap();
        let page: Value =
            serde_json::from_str(done["metadata"]["annotations"][SIDECAR].as_str().unwrap()).unwrap();
        assert_eq!(page["authorities"], told, "{mode}");
        let named = |list: &Value| {
            list.as_array().unwrap().iter().find(|one| one["name"] == "tollgate-authorities").cloned()
        };
        let mount = named(&done["spec"]["initContainers"][1]["volumeMounts"]);
        assert_eq!(mount.as_ref().map(|mount| mount["mountPath"].as_str().unwrap()), mounted, "{mode}");
        let volume = named(&done["spec"]["volumes"]).map(|volume| volume["configMap"].clone());
        let expected =
            json!({ "name": "company-authorities", "items": [{ "key": "all.pem", "path": "all.pem" }] });
        assert_eq!(volume, mounted.map(|_| expected), "{mode}");
    }
}

#[test]
fn a_document_that_is_refused_is_named() {
    let yaml = "kind: Service\nmetadata: { name: s }\n---\nkind: Job\nmetadata: { name: j }\nspec: { template: { spec: { containers: [] } } }\n";
    let error = inject_documents(yaml, "ci", &settings()).unwrap_err().to_string();
    assert_eq!(error, "Job j: say which VirtualKey pays: annotation tollgate.dev/key: NAME");
    let other = "kind: Service\nmetadata:\n  name: s\n";
    assert_eq!(inject_documents(other, "ci", &settings()).unwrap(), other);
    assert!(matches!(inject_documents("a: [", "ci", &settings()), Err(DocumentError::Yaml(_))));
}

mod webhook {
    use super::*;
    use axum::body::Body;
    use axum::http::{Request, StatusCode};
    use http_body_util::BodyExt;
    use std::sync::Arc;
    use tower::ServiceExt;

    async fn ask(body: String) -> (StatusCode, Value) {
        let request =
            Request::post("/inject").header("content-type", "application/json").body(Body::from(body));
        let answer = routes(Arc::new(settings())).oneshot(request.unwrap()).await.unwrap();
        let status = answer.status();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    fn review(object: Value) -> String {
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": { "uid": "u-1", "namespace": "payments", "operation": "CREATE", "object": object },
        })
        .to_string()
    }

    #[tokio::test]
    async fn the_api_server_gets_a_patch_or_a_sentence() {
        let (_, answer) = ask(review(pod())).await;
        let response = &answer["response"];
        assert_eq!((&response["uid"], &response["allowed"]), (&json!("u-1"), &json!(true)));
        let patch: k8s_openapi::ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
        let mut done = pod();
        let patch: json_patch::Patch = serde_json::from_slice(&patch.0).unwrap();
        json_patch::patch(&mut done, &patch).unwrap();
        assert_eq!(done, injected(&pod(), "payments").unwrap());
        let (_, answer) = ask(review(done)).await;
        assert_eq!(answer["response"], json!({ "uid": "u-1", "allowed": true }));
        let (_, answer) = ask(review(with("/spec/hostPID", json!(true)))).await;
        assert_eq!(answer["response"]["allowed"], false);
        assert_eq!(answer["response"]["status"]["message"], Refusal::Host("hostPID").to_string());
        let (_, answer) = ask(review(with("/metadata/labels", json!({})))).await;
        assert_eq!(answer["response"], json!({ "uid": "u-1", "allowed": true }));
        assert_eq!(ask("{}".into()).await.0, StatusCode::BAD_REQUEST);
        assert!(ask("no JSON".into()).await.0.is_client_error());
    }
}

fn containers() -> impl Strategy<Value = Vec<Value>> {
    let env = prop::option::of(prop::collection::vec(
        prop::sample::select(vec![
            "PATH",
            "ANTHROPIC_BASE_URL",
            "ANTHROPIC_API_KEY",
            "OPENAI_BASE_URL",
            "HOME",
        ]),
        0..4,
    ));
    let container = ("[a-z]{1,8}", env).prop_map(|(name, env)| {
        let mut container = json!({ "name": name, "image": "x" });
        if let Some(env) = env {
            container["env"] = env.into_iter().map(|name| json!({ "name": name, "value": "v" })).collect();
        }
        container
    });
    prop::collection::vec(container, 0..4)
}

proptest! {
    #[test]
    fn twice_is_once(
        init in prop::option::of(containers()),
        main in containers(),
        volumes in prop::option::of(prop::collection::vec("[a-z]{1,8}", 0..3)),
        direct in any::<bool>(),
    ) {
        let mut pod = pod();
        pod["spec"]["containers"] = main.into();
        if let Some(init) = init {
            pod["spec"]["initContainers"] = init.into();
        }
        if let Some(volumes) = volumes {
            pod["spec"]["volumes"] = volumes.into_iter().map(|name| json!({ "name": name, "emptyDir": {} })).collect();
        }
        if direct {
            pod["metadata"]["annotations"][MODE] = json!("direct");
        }
        let once = injected(&pod, "ci").unwrap();
        prop_assert_ne!(&once, &pod);
        prop_assert_eq!(&injected(&once, "ci").unwrap(), &once);
    }
}

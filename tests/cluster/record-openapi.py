#!/usr/bin/env python3
"""Records what the sandbox serves about the built-in kinds from a real kube-apiserver.

Usage: record-openapi.py SERVER TOKEN, for example https://127.0.0.1:6443 admin-token.

Writes src/sandbox/openapi/: discovery.json.gz (aggregated discovery), tables.json.gz (printer columns)
and one OpenAPI v3 document per group and version, each trimmed to the kinds that the sandbox serves; and
messages.json.gz, how those kinds are written in protobuf, which kubectl sends when it creates a thing itself.
That comes from the sources of k8s.io/api that go.mod beside this script names.
"""
import gzip, json, pathlib, re, ssl, subprocess, sys, urllib.request

OUT = pathlib.Path(__file__).resolve().parents[2] / "src/sandbox/openapi"
# Group and version -> resources that the sandbox does not serve.
SERVED = {
    "v1": {"componentstatuses", "endpoints", "replicationcontrollers", "podtemplates"},
    "apps/v1": set(), "batch/v1": set(), "events.k8s.io/v1": set(), "coordination.k8s.io/v1": set(),
    "rbac.authorization.k8s.io/v1": set(), "apiextensions.k8s.io/v1": set(),
    "authorization.k8s.io/v1": set(), "authentication.k8s.io/v1": {"tokenreviews"},
    "discovery.k8s.io/v1": set(), "policy/v1": set(), "autoscaling/v2": set(),
    "networking.k8s.io/v1": {"ipaddresses", "servicecidrs"},
    "storage.k8s.io/v1": {"csidrivers", "csinodes", "csistoragecapacities", "volumeattachments",
                          "volumeattributesclasses"},
    "scheduling.k8s.io/v1": set(),
}
# Subresources that the sandbox implements; a stream to a container is not among them.
SUBRESOURCES = {"status", "scale", "log", "binding", "eviction", "token"}
METHODS = ("get", "post", "put", "patch", "delete")
V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
TABLE = "application/json;as=Table;g=meta.k8s.io;v=v1"
SERVER, TOKEN = sys.argv[1:3]


def get(path, accept="application/json"):
    context = ssl._create_unverified_context()
    request = urllib.request.Request(SERVER + path, headers={"Authorization": "Bearer " + TOKEN, "Accept": accept})
    with urllib.request.urlopen(request, context=context) as answer:
        return json.load(answer)


def write(name, document):
    text = json.dumps(document, separators=(",", ":"), sort_keys=True).encode()
    (OUT / name).write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{name}: {len(text)} bytes, {(OUT / name).stat().st_size} compressed")


def trim_subresources(resource):
    kept = [s for s in resource.get("subresources", []) if s["subresource"] in SUBRESOURCES]
    trimmed = {k: v for k, v in resource.items() if k != "subresources"}
    return trimmed | {"subresources": kept} if kept else trimmed


def discovery():
    groups = []
    for path in ("/api", "/apis"):
        for group in get(path, V2)["items"]:
            name = group["metadata"].get("name", "")
            versions = []
            for version in group["versions"]:
                key = f"{name}/{version['version']}" if name else version["version"]
                if key in SERVED:
                    resources = [trim_subresources(r) for r in version["resources"] if r["resource"] not in SERVED[key]]
                    versions.append({"version": version["version"], "resources": resources, "freshness": "Current"})
            if versions:
                groups.append({"metadata": group["metadata"], "versions": versions})
    return groups


def tables(groups):
    columns = {}
    for group in groups:
        name = group["metadata"].get("name", "")
        for version in group["versions"]:
            prefix = f"/apis/{name}" if name else "/api"
            for resource in version["resources"]:
                if "list" in resource["verbs"]:
                    table = get(f"{prefix}/{version['version']}/{resource['resource']}?limit=1", TABLE)
                    columns[f"{resource['resource']}.{name}"] = table["columnDefinitions"]
    return columns


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"].rsplit("/", 1)[1]
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def served_path(path, resources):
    parts = [p for p in path.split("/")[(3 if path.startswith("/api/") else 4):] if p]
    if "watch" in parts:
        return False
    if parts[:2] == ["namespaces", "{namespace}"] and len(parts) > 2:
        parts = parts[2:]
    return len(parts) == 0 or (parts[0] in resources and (len(parts) < 3 or parts[2] in SUBRESOURCES))


def trim_method(method):
    kept = ("description", "operationId", "parameters", "tags", "x-kubernetes-action", "x-kubernetes-group-version-kind")
    return {k: v for k, v in method.items() if k in kept} | {"responses": {"200": {"description": "OK"}}}


def openapi(key, resources):
    path = f"apis/{key}" if "/" in key else f"api/{key}"
    document = get("/openapi/v3/" + path)
    paths = {}
    for name, item in document["paths"].items():
        if served_path(name, resources):
            paths[name] = {k: trim_method(v) if k in METHODS else v for k, v in item.items()}
    schemas = document["components"]["schemas"]
    kinds = {(g["group"], g["version"], g["kind"]) for item in paths.values() for m in item.values()
             if isinstance(m, dict) for g in [m.get("x-kubernetes-group-version-kind")] if g}
    wanted = [n for n, s in schemas.items() for g in s.get("x-kubernetes-group-version-kind", [])
              if (g["group"], g["version"], g["kind"]) in kinds and not n.endswith(".DeleteOptions")]
    kept = {}
    while wanted:
        name = wanted.pop()
        if name not in kept:
            kept[name] = schemas[name]
            wanted += references(schemas[name])
    for schema in kept.values():
        if len(schema.get("x-kubernetes-group-version-kind", [])) > 20:
            del schema["x-kubernetes-group-version-kind"]
    write(path.replace("/", "_") + ".json.gz",
          {"openapi": document["openapi"], "info": document["info"], "paths": paths, "components": {"schemas": kept}})


def fields_of_go(folder):
    """(type, field number) -> (name in JSON, empty where inlined; whether it is a pointer)."""
    found = {}
    for file in folder.glob("*types.go"):
        for name, body in re.findall(r"^type (\w+) struct \{\n(.*?)^\}", file.read_text(), re.M | re.S):
            pattern = r"^\s+(?:\w+\s+)?(\S+)\s+`json:\"([^\"]*)\" protobuf:\"\w+,(\d+),"
            for go_type, tag, number in re.findall(pattern, body, re.M):
                found[name, int(number)] = (tag.split(",")[0], go_type.startswith("*"))
    return found


def messages():
    """Message -> [[field number, name in JSON, kind, type, whether zero is kept]]."""
    found = {}
    where = "go list -m -f {{.Dir}} k8s.io/api k8s.io/apimachinery".split()
    folders = subprocess.check_output(where, cwd=pathlib.Path(__file__).parent, text=True).split()
    api, machinery = map(pathlib.Path, folders)
    versions = [api / "core/v1" if k == "v1" else api / k.split("/")[0].split(".")[0] / k.split("/")[1] for k in SERVED]
    for folder in [v for v in versions if v.exists()] + [machinery / "pkg/apis/meta/v1"]:
        text = (folder / "generated.proto").read_text()
        package = re.search(r"^package (.*);", text, re.M)[1]
        go = fields_of_go(folder)
        for name, body in re.findall(r"^message (\w+) \{\n(.*?)^\}", text, re.M | re.S):
            pattern = r"^  (?:(optional|repeated) (\S+)|map<string, ([^>]+)>) (\w+) = (\d+);"
            for label, plain, value, field, number in re.findall(pattern, body, re.M):
                kind = "map" if value else label
                json_name, pointer = go.get((name, int(number)), (field, False))
                type_name = plain or value
                if not type_name.startswith(".") and type_name[0].isupper():
                    type_name = f"{package}.{type_name}"
                found.setdefault(f"{package}.{name}", []).append(
                    [int(number), json_name, kind, type_name.lstrip("."), pointer])
    return found


groups = discovery()
OUT.mkdir(parents=True, exist_ok=True)
write("discovery.json.gz", groups)
write("tables.json.gz", tables(groups))
write("messages.json.gz", messages())
for group in groups:
    for version in group["versions"]:
        name = group["metadata"].get("name", "")
        openapi(f"{name}/{version['version']}" if name else version["version"], {r["resource"] for r in version["resources"]})

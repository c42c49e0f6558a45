//! Paths that are not objects: discovery, version, health and OpenAPI.

use http::Method;
use serde_json::json;

use super::Shared;
use super::discovery;
use super::error::{ApiError, ApiResult};
use super::http::{Answer, Call, Reply};
use super::media::Accept;
use super::openapi_view;
use super::route::unknown;

const V2: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const V2_BETA: &str = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// Answers a request for a path.
pub fn answer(shared: &Shared, call: &Call) -> ApiResult<Reply> {
    if call.method != Method::GET {
        return Err(ApiError::method_not_allowed());
    }
    let registry = shared.state.lock().registry.clone();
    let parts: Vec<&str> = call.path.split('/').filter(|part| !part.is_empty()).collect();
    let json = |value| Answer::Json(200, value);
    let answer = match parts.as_slice() {
        [] => {
            let paths =
                ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"];
            json(json!({"paths": paths}))
        }
        ["healthz" | "livez" | "readyz", ..] => {
            Answer::Raw(b"ok".to_vec(), "text/plain; charset=utf-8", false)
        }
        ["version"] => json(discovery::version()),
        ["api" | "apis"] => {
            let is_core = parts == ["api"];
            match call.accept {
                Accept::Discovery("v2") => Answer::Typed(discovery::aggregated(&registry, is_core, "v2"), V2),
                Accept::Discovery(version) => {
                    Answer::Typed(discovery::aggregated(&registry, is_core, version), V2_BETA)
                }
                _ if is_core => json(discovery::core_versions("127.0.0.1")),
                _ => json(discovery::group_list(&registry)),
            }
        }
        ["api", version] if registry.has_version("", version) => {
            json(discovery::resource_list(&registry, "", version))
        }
        ["apis", group] => json(discovery::group(&registry, group).ok_or_else(ApiError::page_not_found)?),
        ["apis", group, version] if registry.has_version(group, version) => {
            json(discovery::resource_list(&registry, group, version))
        }
        ["openapi", "v2"] => openapi_view::v2(&call.headers),
        ["openapi", "v3"] => json(openapi_view::index(&registry)),
        ["openapi", "v3", path @ ..] => openapi_view::document(&registry, &path.join("/"), &call.headers)?,
        ["api", version] => return Err(unknown(&registry, "", version)),
        ["apis", group, version] => return Err(unknown(&registry, group, version)),
        _ => return Err(ApiError::page_not_found()),
    };
    Ok(answer.into())
}

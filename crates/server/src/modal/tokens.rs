//! Who the client is to this server.

use corral_modal_api as api;
use corral_types::Timestamp;
use corral_types::{ErrorKind, TokenId};

use super::Edge;
use super::call::Call;
use super::ids::timestamp;
use super::refusal::{Answer, Refusal};

/// How long a token for other planes is said to hold; clients ask again before it ends.
const AUTH_TOKEN_SECONDS: u64 = 3_600;

pub async fn client_hello(_: &Edge, call: &Call, _: ()) -> Answer<api::ClientHelloResponse> {
    Ok(api::ClientHelloResponse {
        image_builder_version: call.client.builder().to_owned(),
        ..Default::default()
    })
}

pub async fn workspace_name(
    edge: &Edge,
    call: &Call,
    _: (),
) -> Answer<api::WorkspaceNameLookupResponse> {
    let workspace = edge.catalog.workspace(call.caller.workspace).await?;
    let name = workspace.name.to_string();
    Ok(api::WorkspaceNameLookupResponse { username: name.clone(), workspace_name: name })
}

pub async fn info(
    edge: &Edge,
    call: &Call,
    _: api::TokenInfoGetRequest,
) -> Answer<api::TokenInfoGetResponse> {
    let workspace = edge.catalog.workspace(call.caller.workspace).await?;
    let mut answer = api::TokenInfoGetResponse {
        workspace_id: workspace.id.to_string(),
        workspace_name: workspace.name.to_string(),
        ..Default::default()
    };
    if let Some(id) = call.caller.token {
        let token = token(edge, call, id).await?;
        answer.token_id = id.to_string();
        answer.token_name = token.name.to_string();
        answer.created_at = Some(timestamp(token.created));
        answer.expires_at = token.expires.map(timestamp);
        let user = api::UserIdentity { user_id: id.to_string(), username: token.name.to_string() };
        answer.identity = Some(api::token_info_get_response::Identity::UserIdentity(user));
    }
    Ok(answer)
}

async fn token(edge: &Edge, call: &Call, id: TokenId) -> Answer<corral_catalog::TokenRecord> {
    let workspace = call.caller.workspace;
    let all = corral_catalog::all_pages(|page| edge.catalog.list_tokens(workspace, page)).await?;
    let found = all.into_iter().find(|token| token.id == id);
    found.ok_or_else(|| Refusal::new(ErrorKind::Unauthenticated, "the token was revoked"))
}

/// A token that clients send along to planes that this server does not have; they read no more
/// of it than when it ends.
pub async fn auth_token(
    _: &Edge,
    _: &Call,
    _: api::AuthTokenGetRequest,
) -> Answer<api::AuthTokenGetResponse> {
    let ends = Timestamp::now().as_millis() / 1000 + AUTH_TOKEN_SECONDS;
    let claims = format!(r#"{{"exp":{ends}}}"#);
    let token = format!("e30.{}.corral", url_base64(claims.as_bytes()));
    Ok(api::AuthTokenGetResponse { token })
}

/// Base 64 as tokens have it: for addresses, without padding.
pub fn url_base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(*group.get(at).unwrap_or(&0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..=group.len() {
            text.push(ALPHABET[(bits >> (18 - 6 * at) & 63) as usize] as char);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::url_base64;

    #[test]
    fn base64_is_what_others_write() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg"),
            ("fo", "Zm8"),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg"),
            ("~~~???", "fn5-Pz8_"),
        ] {
            assert_eq!(url_base64(plain.as_bytes()), encoded);
        }
    }
}

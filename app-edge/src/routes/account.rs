use axum::Extension;
use axum::extract::State;
use axum::response::Response;
use burstflare_core::ControlPlane;
use burstflare_core::domain::permission::Action;
use burstflare_core::service::{self, Recover, Register};
use burstflare_ports::record::Origin;

use crate::extract::{Authenticated, Json, created, nothing, ok};
use crate::problem::Answer;
use crate::resource::{Me, RecoverRequest, RefreshRequest, RegisterRequest, Registered, SignedIn, Tokens};
use crate::table::{Accepts, Access, Table};

pub(super) fn table(table: Table) -> Table {
    table
        .add(__path_register, Access::Counted(1), Accepts::Json, register)
        .add(__path_recover, Access::Counted(1), Accepts::Json, recover)
        .add(__path_refresh, Access::Counted(1), Accepts::Json, refresh)
        .add(__path_logout, Access::Bearer(Action::TokenManage), Accepts::Nothing, logout)
        .add(__path_me, Access::Bearer(Action::Read), Accepts::Nothing, me)
}

/// Make an account, its personal workspace, recovery codes and tokens.
#[utoipa::path(post, path = "/api/v1/auth/register", tag = "accounts", request_body = RegisterRequest,
    responses((status = 201, body = Registered)))]
async fn register(
    State(plane): State<ControlPlane>,
    Extension(origin): Extension<Origin>,
    Json(wish): Json<RegisterRequest>,
) -> Answer<Response> {
    let wish = Register { email: wish.email, code: wish.code };
    let registered = plane.register(wish, origin).await?;
    let service::SignedIn { user, workspace, role, tokens } = registered.signed_in;
    created(&Registered {
        user: user.into(),
        workspace: workspace.into(),
        role,
        recovery_codes: registered.recovery_codes,
        tokens: tokens.into(),
    })
}

/// Sign in by a recovery code.
#[utoipa::path(post, path = "/api/v1/auth/recover", tag = "accounts", request_body = RecoverRequest,
    responses((status = 200, body = SignedIn)))]
async fn recover(
    State(plane): State<ControlPlane>,
    Extension(origin): Extension<Origin>,
    Json(way): Json<RecoverRequest>,
) -> Answer<Response> {
    let way = Recover { email: way.email, code: way.code };
    ok(&SignedIn::from(plane.recover(way, origin).await?))
}

/// Exchange a refresh token for new tokens.
#[utoipa::path(post, path = "/api/v1/auth/refresh", tag = "accounts", request_body = RefreshRequest,
    responses((status = 200, body = SignedIn)))]
async fn refresh(
    State(plane): State<ControlPlane>,
    Extension(origin): Extension<Origin>,
    Json(request): Json<RefreshRequest>,
) -> Answer<Response> {
    ok(&SignedIn::from(plane.refresh(&request.refresh_token, origin).await?))
}

/// End the sign-in the token came from: all its tokens are refused from now on.
#[utoipa::path(post, path = "/api/v1/auth/logout", tag = "accounts", responses((status = 204)))]
async fn logout(State(plane): State<ControlPlane>, Authenticated(caller): Authenticated) -> Answer<Response> {
    plane.logout(&caller).await?;
    nothing()
}

/// Who the token belongs to.
#[utoipa::path(get, path = "/api/v1/me", tag = "accounts", responses((status = 200, body = Me)))]
async fn me(Authenticated(caller): Authenticated) -> Answer<Response> {
    ok(&Me { user: caller.user.into(), workspace: caller.workspace.into(), role: caller.role })
}

impl From<service::SignedIn> for SignedIn {
    fn from(signed_in: service::SignedIn) -> Self {
        Self {
            user: signed_in.user.into(),
            workspace: signed_in.workspace.into(),
            role: signed_in.role,
            tokens: signed_in.tokens.into(),
        }
    }
}

impl From<service::Tokens> for Tokens {
    fn from(tokens: service::Tokens) -> Self {
        Self {
            access_token: tokens.access,
            access_expires_at: tokens.access_expires_at,
            refresh_token: tokens.refresh,
            refresh_expires_at: tokens.refresh_expires_at,
        }
    }
}

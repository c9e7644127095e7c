//! An API server of a test, over a store.

use std::net::Ipv4Addr;
use std::sync::{Arc, OnceLock};

use super::{ApiServer, ApiServerParts};
use crate::auth::Authenticator;
use crate::auth::rbac::Authorizer;
use crate::auth::tokens::ServiceAccountTokens;
use crate::objects::Objects;
use crate::store::Store;

pub fn server(store: &Arc<Store>) -> Arc<ApiServer> {
    let objects: Arc<dyn Objects> = Arc::clone(store) as Arc<dyn Objects>;
    let tokens = Arc::new(ServiceAccountTokens::new([7; 32]));
    ApiServer::new(ApiServerParts {
        store: Arc::clone(store),
        authenticator: Arc::new(Authenticator::new(Arc::clone(&tokens), Arc::clone(&objects))),
        authorizer: Arc::new(Authorizer::new(objects)),
        tokens,
        kubelet: Arc::new(OnceLock::new()),
        service_addresses: (Ipv4Addr::new(127, 100, 8, 0), Ipv4Addr::new(127, 100, 15, 254)),
        audit: None,
    })
}

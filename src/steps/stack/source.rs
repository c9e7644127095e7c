//! Where the objects of a part of the stack come from. They are read once, when a step first needs them: what makes them
//! known (a cluster and its record, a fetched release, generated files) may be a step of the same plan.

use std::sync::Arc;

use futures::future::BoxFuture;
use kube::api::DynamicObject;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::finding::{Finding, Id};
use crate::manifest::images::ImageMap;
use crate::manifest::ports;

type Load = dyn Fn() -> BoxFuture<'static, Result<Vec<Value>, Finding>> + Send + Sync;

/// Objects to install.
pub struct Source {
    load: Box<Load>,
    images: Box<dyn Fn() -> ImageMap + Send + Sync>,
    objects: OnceCell<Vec<DynamicObject>>,
}

impl Source {
    /// What `load` answers, with images as the map has them.
    pub fn new(
        images: impl Fn() -> ImageMap + Send + Sync + 'static,
        load: impl Fn() -> BoxFuture<'static, Result<Vec<Value>, Finding>> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { load: Box::new(load), images: Box::new(images), objects: OnceCell::new() })
    }

    /// The objects.
    ///
    /// # Errors
    /// They are not known yet, or damaged.
    pub async fn objects(&self) -> Result<&[DynamicObject], Finding> {
        let objects = self.objects.get_or_try_init(async || {
            let (mut values, images) = ((self.load)().await?, (self.images)());
            for value in &mut values {
                images.rewrite(value);
                ports::complete(value);
            }
            values.into_iter().map(object).collect::<Result<Vec<_>, _>>()
        });
        Ok(objects.await?)
    }
}

/// Objects as documents.
///
/// # Errors
/// None, but the type has to say so.
pub fn values_of(objects: &[DynamicObject]) -> Result<Vec<Value>, Finding> {
    objects.iter().map(|object| serde_json::to_value(object).map_err(|error| damaged(&error.to_string()))).collect()
}

fn object(value: Value) -> Result<DynamicObject, Finding> {
    serde_json::from_value(value).map_err(|error| damaged(&error.to_string()))
}

fn damaged(why: &str) -> Finding {
    Finding::new(Id::ManifestsDamaged, format!("a document of the stack is not an object: {why}"))
}

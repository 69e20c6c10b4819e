//! What a user asks of a model: retrieval, classification, comparison, search.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Error, Result};

/// One thing that users do with a model, without a tensor: it holds an [`EmbedWorker`](crate::EmbedWorker) or plain
/// embeddings. The command and the server drive it through [`Endpoint`].
pub trait App: Send + Sync + 'static {
    /// The app's name; a server may serve it under another route.
    const NAME: &'static str;

    /// What is asked.
    type Request: DeserializeOwned + JsonSchema;

    /// What is answered.
    type Response: Serialize + JsonSchema;

    /// Answers one request.
    fn run(&self, request: Self::Request) -> Result<Self::Response>;
}

/// An [`App`] with its types erased: JSON in, JSON out. Every app is one.
pub trait Endpoint: Send + Sync {
    /// The app's name.
    fn name(&self) -> &'static str;

    /// JSON Schemas of request and response: `{"request": …, "response": …}`.
    fn schema(&self) -> Value;

    /// Answers one request. A request that does not fit the schema is [`Kind::Invalid`](crate::Kind::Invalid).
    fn call(&self, request: Value) -> Result<Value>;
}

impl<A: App> Endpoint for A {
    fn name(&self) -> &'static str {
        A::NAME
    }

    fn schema(&self) -> Value {
        serde_json::json!({
            "request": schemars::schema_for!(A::Request),
            "response": schemars::schema_for!(A::Response),
        })
    }

    fn call(&self, request: Value) -> Result<Value> {
        let request = serde_json::from_value(request)
            .map_err(|error| Error::invalid(format!("request of `{}`: {error}", A::NAME)).source(error))?;
        serde_json::to_value(self.run(request)?)
            .map_err(|error| Error::internal(format!("response of `{}`: {error}", A::NAME)).source(error))
    }
}

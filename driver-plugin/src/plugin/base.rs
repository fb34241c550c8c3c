//! What every Nomad plugin answers: who it is, and its configuration.

use std::sync::Arc;

use nomad_plugin_proto::base::base_plugin_server::BasePlugin;
use nomad_plugin_proto::base::{
    ConfigSchemaRequest, ConfigSchemaResponse, PluginInfoRequest, PluginInfoResponse, SetConfigRequest,
    SetConfigResponse,
};
use tonic::{Request, Response, Status, async_trait};

use crate::about;
use crate::agent::{self, Agent};
use crate::driver::Host;
use crate::settings::Value;

/// The service of that name.
#[derive(Debug)]
pub(super) struct Base(Arc<Host>);

impl Base {
    /// A service that tells `host` what the agent's configuration says.
    pub(super) const fn new(host: Arc<Host>) -> Self {
        Self(host)
    }
}

#[async_trait]
impl BasePlugin for Base {
    async fn plugin_info(
        &self,
        _: Request<PluginInfoRequest>,
    ) -> Result<Response<PluginInfoResponse>, Status> {
        Ok(Response::new(about::info()))
    }

    async fn config_schema(
        &self,
        _: Request<ConfigSchemaRequest>,
    ) -> Result<Response<ConfigSchemaResponse>, Status> {
        Ok(Response::new(ConfigSchemaResponse { spec: Some(agent::schema()) }))
    }

    /// Takes the configuration. It comes up to three times, also in processes that only validate it and are killed then.
    async fn set_config(
        &self,
        request: Request<SetConfigRequest>,
    ) -> Result<Response<SetConfigResponse>, Status> {
        let request = request.into_inner();
        let refuse = |problem: String| Status::invalid_argument(problem);
        let config = Value::read(&request.msgpack_config).map_err(|error| refuse(error.to_string()))?;
        let agent = Agent::read(&config).map_err(|error| refuse(error.to_string()))?;
        let topology = request.nomad_config.and_then(|nomad| nomad.driver).and_then(|driver| driver.topology);
        self.0.configure(agent, topology);
        Ok(Response::new(SetConfigResponse {}))
    }
}

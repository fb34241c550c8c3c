//! The rpcs of every Nomad plugin: its name and its configuration.

use std::sync::Arc;

use nomad_plugin_proto::base::base_plugin_server::BasePlugin;
use nomad_plugin_proto::base::{
    ConfigSchemaRequest, ConfigSchemaResponse, PluginInfoRequest, PluginInfoResponse, SetConfigRequest,
    SetConfigResponse,
};
use tonic::{Request, Response, Status, async_trait};

use crate::about;
use crate::driver::SharedConfig;
use crate::msgpack;
use crate::plugin_config::{self, PluginConfig};
use crate::resources::mhz_per_core;

/// The service `BasePlugin`. It stores the agent's configuration for the driver.
#[derive(Debug)]
pub(super) struct BasePluginService(pub(super) Arc<SharedConfig>);

#[async_trait]
impl BasePlugin for BasePluginService {
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
        Ok(Response::new(ConfigSchemaResponse { spec: Some(plugin_config::schema()) }))
    }

    /// Stores the configuration. An agent calls this up to three times, also in processes that it kills after
    /// validation.
    async fn set_config(
        &self,
        request: Request<SetConfigRequest>,
    ) -> Result<Response<SetConfigResponse>, Status> {
        let request = request.into_inner();
        let block = msgpack::decode(&request.msgpack_config)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let config =
            PluginConfig::read(&block).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let topology = request.nomad_config.and_then(|nomad| nomad.driver).and_then(|driver| driver.topology);
        self.0.set(config, topology.as_ref().and_then(mhz_per_core));
        Ok(Response::new(SetConfigResponse {}))
    }
}

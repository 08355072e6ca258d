//! Every method: who may call it, what becomes of it when its caller goes, and what answers it.

use std::pin::Pin;

use axum::body::Bytes;
use futures_util::StreamExt;

use super::call::{Call, Who};
use super::grpc::{Reply, decode, encode};
use super::refusal::Answer;
use super::{
    Edge, apps, blobs, calls, classes, containers, environments, functions, images, logs, mounts,
    secrets, tasks, tokens,
};

/// What becomes of a request whose caller goes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is dropped: it only waits, or can be dropped at any moment.
    WithClient,
    /// It is brought to its end.
    Always,
}

type Answering = Pin<Box<dyn Future<Output = Answer<Reply>> + Send>>;

/// A method of the service.
pub struct Method {
    pub who: Who,
    pub ending: Ending,
    pub handler: fn(Edge, Call, Bytes) -> Answering,
}

macro_rules! methods {
    ($($name:literal $who:ident $kind:ident $handler:path;)*) => {
        /// The method of this name.
        pub fn find(name: &str) -> Option<Method> {
            match name {
                $($name => Some(methods!(@method $who $kind $handler)),)*
                _ => None,
            }
        }
    };
    // Waits, or asks.
    (@method $who:ident ask $handler:path) => {
        methods!(@unary $who WithClient $handler)
    };
    // Changes something in more than one step.
    (@method $who:ident act $handler:path) => {
        methods!(@unary $who Always $handler)
    };
    (@unary $who:ident $ending:ident $handler:path) => {
        Method {
            who: Who::$who,
            ending: Ending::$ending,
            handler: |edge, call, bytes| {
                Box::pin(async move {
                    let answer = $handler(&edge, &call, decode(bytes)?).await?;
                    Ok(Reply::One(encode(&answer)))
                })
            },
        }
    };
    (@method $who:ident stream $handler:path) => {
        Method {
            who: Who::$who,
            ending: Ending::WithClient,
            handler: |edge, call, bytes| {
                Box::pin(async move {
                    let answers = $handler(&edge, &call, decode(bytes)?).await?;
                    Ok(Reply::Many(Box::pin(answers.map(|answer| Ok(encode(&answer?))))))
                })
            },
        }
    };
}

methods! {
    "AppClientDisconnect" Client act apps::client_disconnect;
    "AppCountLogs" Client ask logs::count;
    "AppCreate" Client act apps::create;
    "AppDeploy" Client act apps::deploy;
    "AppDeploymentHistory" Client ask apps::history;
    "AppFetchLogs" Client ask logs::fetch;
    "AppGetByDeploymentName" Client ask apps::by_deployment_name;
    "AppGetInfo" Client ask apps::get_info;
    "AppGetLayout" Client ask apps::get_layout;
    "AppGetLifecycle" Client ask apps::get_lifecycle;
    "AppGetLogs" Client stream logs::follow;
    "AppGetObjects" Client ask apps::get_objects;
    "AppGetOrCreate" Client act apps::get_or_create;
    "AppGetTags" Client ask apps::get_tags;
    "AppHeartbeat" Client ask apps::heartbeat;
    "AppList" Client ask apps::list;
    "AppLookup" Client ask apps::lookup;
    "AppPublish" Client act apps::publish;
    "AppRollback" Client act apps::rollback;
    "AppRollover" Client act apps::rollover;
    "AppSetObjects" Client act apps::set_objects;
    "AppSetTags" Client act apps::set_tags;
    "AppStop" Client act apps::stop;
    "AuthTokenGet" Both ask tokens::auth_token;
    "BlobCreate" Both ask blobs::create;
    "BlobGet" Both ask blobs::get;
    "ClassCreate" Client act classes::create;
    "ClassGet" Both ask classes::get;
    "ClientHello" Both ask tokens::client_hello;
    "ContainerCheckpoint" Container ask containers::checkpoint;
    "ContainerHeartbeat" Container ask containers::heartbeat;
    "ContainerHello" Container ask containers::hello;
    "ContainerStop" Both act tasks::stop;
    "EnvironmentCreate" Client act environments::create;
    "EnvironmentDelete" Client act environments::delete;
    "EnvironmentGetOrCreate" Both act environments::get_or_create;
    "EnvironmentList" Client ask environments::list;
    "EnvironmentUpdate" Client act environments::update;
    "FunctionBindParams" Both act functions::bind_params;
    "FunctionCallCancel" Both act calls::cancel;
    "FunctionCallFromId" Both ask calls::from_id;
    "FunctionCallGetDataIn" Container stream containers::data_in;
    "FunctionCallGetDataOut" Both stream calls::data_out;
    "FunctionCallGetInfo" Both ask calls::get_info;
    "FunctionCallList" Client ask calls::list;
    "FunctionCallPutDataOut" Container act containers::put_data_out;
    "FunctionCreate" Client act functions::create;
    "FunctionFinishInputs" Both ask calls::finish_inputs;
    "FunctionGet" Both ask functions::get;
    "FunctionGetById" Both ask functions::get_by_id;
    "FunctionGetCallGraph" Both ask calls::graph;
    "FunctionGetCurrentStats" Both ask functions::current_stats;
    "FunctionGetDynamicConcurrency" Container ask containers::dynamic_concurrency;
    "FunctionGetInputs" Container ask containers::get_inputs;
    "FunctionGetOutputs" Both ask calls::outputs;
    "FunctionGetSchedulingParams" Client ask functions::get_scheduling;
    "FunctionMap" Both ask calls::map;
    "FunctionPrecreate" Client act functions::precreate;
    "FunctionPutInputs" Both ask calls::put_inputs;
    "FunctionPutOutputs" Container ask containers::put_outputs;
    "FunctionRetryInputs" Both ask calls::retry_inputs;
    "FunctionUpdateSchedulingParams" Client act functions::update_scheduling;
    "ImageFromId" Client ask images::from_id;
    "ImageGetOrCreate" Client act images::get_or_create;
    "ImageJoinStreaming" Client stream images::join;
    "MountBatchedCheckExistence" Client ask mounts::check_existence;
    "MountGetOrCreate" Client act mounts::get_or_create;
    "MountPutFile" Client act mounts::put_file;
    "SecretDelete" Client act secrets::delete;
    "SecretGetInfo" Client ask secrets::get_info;
    "SecretGetOrCreate" Client act secrets::get_or_create;
    "SecretList" Client ask secrets::list;
    "SecretUpdate" Client act secrets::update;
    "TaskGetInfo" Client ask tasks::info;
    "TaskList" Client ask tasks::list;
    "TaskResult" Container ask containers::task_result;
    "TokenInfoGet" Client ask tokens::info;
    "WorkspaceNameLookup" Client ask tokens::workspace_name;
}

#[cfg(test)]
mod tests {
    use corral_modal_api::METHODS;

    use super::find;

    #[test]
    fn every_method_with_messages_is_served() {
        let missing: Vec<_> = METHODS.iter().filter(|name| find(name).is_none()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(find("SandboxCreate").is_none());
    }
}

"""The messages and methods of `inference.GRPCInferenceService`, as a table.

Sources: kserve/open-inference-protocol, specification/protocol/open_inference_grpc.proto; for ModelConfig,
ModelStatistics and Repository...: triton-inference-server/common, protobuf/grpc_service.proto and
model_config.proto, of which ModelConfig has the fields that say something here.

A row is a message's fields: number, name, type. `*` after a type repeats it, `{}` around one is a map from
strings to it, `?` after one makes it a member of the message's one-of.
"""

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

# Each takes its Request and answers with its Response.
METHODS = (
    "ServerLive", "ServerReady", "ModelReady", "ServerMetadata", "ModelMetadata", "ModelInfer",
    "ModelConfig", "ModelStatistics", "RepositoryIndex", "RepositoryModelLoad", "RepositoryModelUnload",
)  # fmt: skip

ENUMS = {
    # Values are numbered from 0.
    "DataType": (
        "TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64", "TYPE_INT8",
        "TYPE_INT16", "TYPE_INT32", "TYPE_INT64", "TYPE_FP16", "TYPE_FP32", "TYPE_FP64", "TYPE_STRING",
        "TYPE_BF16",
    ),
}  # fmt: skip

_NAMED = "1 name string, 2 version string"
_TENSOR = (
    "1 name string, 2 datatype string, 3 shape int64*, 4 parameters {InferParameter}, "
    "5 contents InferTensorContents"
)

MESSAGES = {
    "ServerLiveRequest": "",
    "ServerLiveResponse": "1 live bool",
    "ServerReadyRequest": "",
    "ServerReadyResponse": "1 ready bool",
    "ModelReadyRequest": _NAMED,
    "ModelReadyResponse": "1 ready bool",
    "ServerMetadataRequest": "",
    "ServerMetadataResponse": "1 name string, 2 version string, 3 extensions string*",
    "ModelMetadataRequest": _NAMED,
    "TensorMetadata": "1 name string, 2 datatype string, 3 shape int64*",
    "ModelMetadataResponse": "1 name string, 2 versions string*, 3 platform string, "
    "4 inputs TensorMetadata*, 5 outputs TensorMetadata*",
    "InferParameter": "1 bool_param bool?, 2 int64_param int64?, 3 string_param string?, "
    "4 double_param double?, 5 uint64_param uint64?",
    "InferTensorContents": "1 bool_contents bool*, 2 int_contents int32*, 3 int64_contents int64*, "
    "4 uint_contents uint32*, 5 uint64_contents uint64*, 6 fp32_contents float*, 7 fp64_contents double*, "
    "8 bytes_contents bytes*",
    "InferInputTensor": _TENSOR,
    "InferRequestedOutputTensor": "1 name string, 2 parameters {InferParameter}",
    "ModelInferRequest": "1 model_name string, 2 model_version string, 3 id string, "
    "4 parameters {InferParameter}, 5 inputs InferInputTensor*, 6 outputs InferRequestedOutputTensor*, "
    "7 raw_input_contents bytes*",
    "InferOutputTensor": _TENSOR,
    "ModelInferResponse": "1 model_name string, 2 model_version string, 3 id string, "
    "4 parameters {InferParameter}, 5 outputs InferOutputTensor*, 6 raw_output_contents bytes*",
    "ModelConfigRequest": _NAMED,
    "ModelInput": "1 name string, 2 data_type DataType, 4 dims int64*",
    "ModelOutput": "1 name string, 2 data_type DataType, 3 dims int64*",
    "ModelConfig": "1 name string, 2 platform string, 4 max_batch_size int32, 5 input ModelInput*, "
    "6 output ModelOutput*, 17 backend string",
    "ModelConfigResponse": "1 config ModelConfig",
    "ModelStatisticsRequest": _NAMED,
    "StatisticDuration": "1 count uint64, 2 ns uint64",
    "InferStatistics": "1 success StatisticDuration, 2 fail StatisticDuration, 3 queue StatisticDuration, "
    "4 compute_input StatisticDuration, 5 compute_infer StatisticDuration, "
    "6 compute_output StatisticDuration, 7 cache_hit StatisticDuration, 8 cache_miss StatisticDuration",
    "InferBatchStatistics": "1 batch_size uint64, 2 compute_input StatisticDuration, "
    "3 compute_infer StatisticDuration, 4 compute_output StatisticDuration",
    "ModelStatistics": "1 name string, 2 version string, 3 last_inference uint64, 4 inference_count uint64, "
    "5 execution_count uint64, 6 inference_stats InferStatistics, 7 batch_stats InferBatchStatistics*",
    "ModelStatisticsResponse": "1 model_stats ModelStatistics*",
    "RepositoryIndexRequest": "1 repository_name string, 2 ready bool",
    "ModelIndex": "1 name string, 2 version string, 3 state string, 4 reason string",
    "RepositoryIndexResponse": "1 models ModelIndex*",
    "ModelRepositoryParameter": "1 bool_param bool?, 2 int64_param int64?, 3 string_param string?, "
    "4 bytes_param bytes?",
    # The Open Inference Protocol has the model's name where Triton has that of a repository.
    "RepositoryModelLoadRequest": "1 repository_name string, 2 model_name string, "
    "3 parameters {ModelRepositoryParameter}",
    "RepositoryModelLoadResponse": "1 model_name string, 2 is_loaded bool",
    "RepositoryModelUnloadRequest": "1 repository_name string, 2 model_name string, "
    "3 parameters {ModelRepositoryParameter}",
    "RepositoryModelUnloadResponse": "1 model_name string, 2 is_unloaded bool",
}

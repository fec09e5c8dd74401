{{- define "vllm.service" -}}
{{ .Values.service.name | default .Release.Name }}
{{- end }}

{{- define "vllm.model" -}}
{{ if .Values.model.hostPath }}/model{{ else }}{{ .Values.model.name }}{{ end }}
{{- end }}

{{- define "vllm.arguments" -}}
{{- $engine := .Values.engine -}}
- {{ include "vllm.model" . | quote }}
- "--served-model-name={{ .Values.model.servedName | default .Values.model.name }}"
- "--port=8000"
{{- range $name, $value := dict
    "max-num-seqs" $engine.maxNumSeqs
    "max-num-batched-tokens" $engine.maxNumBatchedTokens
    "max-model-len" $engine.maxModelLen
    "enable-prefix-caching" $engine.enablePrefixCaching
    "enable-chunked-prefill" $engine.enableChunkedPrefill
    "dtype" $engine.dtype
    "enforce-eager" $engine.enforceEager
    "gpu-memory-utilization" $engine.gpuMemoryUtilization
    "kv-cache-memory-bytes" $engine.kvCacheMemoryBytes
    "tensor-parallel-size" $engine.tensorParallelSize
    "shutdown-timeout" .Values.termination.shutdownTimeoutSeconds
}}
{{- include "gpulab.argument" (dict "name" $name "value" $value) }}
{{- end }}
{{- with .Values.histogramBuckets }}
- {{ printf "--custom-histogram-buckets=%s" (toJson .) | quote }}
{{- end }}
{{- if .Values.cpu.enabled }}
- "--distributed-executor-backend=uni"
{{- end }}
{{- range $engine.extraArgs }}
- {{ . | quote }}
{{- end }}
{{- end }}

{{- define "vllm.env" -}}
{{- $env := dict -}}
{{- if .Values.cpu.enabled -}}
{{- /* Threads that the kernel may move, so that servers on one machine do not all bind to its first core; and, with
       the executor `uni`, one process for engine and worker: a third less memory and a quicker start. */ -}}
{{- $env = dict
    "OMP_NUM_THREADS" (.Values.cpu.threads | toString)
    "VLLM_CPU_OMP_THREADS_BIND" "nobind"
    "VLLM_ENABLE_V1_MULTIPROCESSING" "0"
-}}
{{- end -}}
{{- include "gpulab.env" (mergeOverwrite $env .Values.env) }}
{{- end }}

{{- define "vllm.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "vllm.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "vllm.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/component: server
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "vllm.service" -}}
{{ .Values.service.name | default .Release.Name }}
{{- end }}

{{- define "vllm.model" -}}
{{ if .Values.model.hostPath }}/model{{ else }}{{ .Values.model.name }}{{ end }}
{{- end }}

{{- /* A number or a word as --name=value, a truth as --name or --no-name; nothing for null. */ -}}
{{- define "vllm.argument" -}}
{{- if kindIs "bool" .value }}
- "{{ ternary "--" "--no-" .value }}{{ .name }}"
{{- else if not (kindIs "invalid" .value) }}
- {{ printf "--%s=%v" .name (ternary (.value | int64) .value (and (kindIs "float64" .value) (eq (floor .value) .value))) | quote }}
{{- end }}
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
{{- include "vllm.argument" (dict "name" $name "value" $value) }}
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
{{- range $name, $value := mergeOverwrite $env .Values.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- define "vllm.probe" -}}
httpGet:
  path: {{ .path }}
  port: http
periodSeconds: {{ .periodSeconds }}
timeoutSeconds: {{ .timeoutSeconds }}
failureThreshold: {{ .failureThreshold }}
{{- end }}

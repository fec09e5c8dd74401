{{- /* The name of the first pod, which the Service of the release gives it. */ -}}
{{- define "ddp.first" -}}
{{ .Release.Name }}-0.{{ .Release.Name }}
{{- end }}

{{- define "ddp.command" -}}
{{- $torchrun := .Values.torchrun -}}
{{- $endpoint := ternary (printf "%s:29400" (include "ddp.first" .)) nil ($torchrun.rdzvEndpoint | default false) -}}
{{- $conf := list -}}
{{- range $name, $value := $torchrun.rdzvConf }}{{ $conf = append $conf (printf "%s=%d" $name (int64 $value)) }}{{ end -}}
- torchrun
{{- range list
    (list "nnodes" $torchrun.nnodes)
    (list "nproc-per-node" $torchrun.nprocPerNode)
    (list "rdzv-backend" $torchrun.rdzvBackend)
    (list "rdzv-endpoint" $endpoint)
    (list "rdzv-id" (ternary .Release.Name nil (or $torchrun.rdzvBackend $endpoint | empty | not)))
    (list "rdzv-conf" (ternary (join "," $conf) nil (not (empty $conf))))
    (list "max-restarts" $torchrun.maxRestarts)
    (list "monitor-interval" $torchrun.monitorInterval)
}}
{{- include "gpulab.argument" (dict "name" (index . 0) "value" (index . 1)) }}
{{- end }}
- /lab/train.py
{{- end }}

{{- define "ddp.env" -}}
{{- /* With torch 2.13 torchrun and its processes share a store otherwise, which keeps the addresses of those that died:
       who starts again dials them, and no replaced pod is let in. */ -}}
{{- $env := dict
    "TORCH_DISABLE_SHARE_RDZV_TCP_STORE" "1"
    "DDP_RUN" .Release.Name
    "DDP_SERVICE" "http://data:8080"
    "PYTHONPATH" "/lab"
    "PYTHONUNBUFFERED" "1"
-}}
{{- with .Values.threads }}{{ $env = set $env "OMP_NUM_THREADS" (toString .) }}{{ end -}}
{{- include "gpulab.env" (mergeOverwrite $env .Values.env) }}
- name: POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
- name: NODE_NAME
  valueFrom:
    fieldRef:
      fieldPath: spec.nodeName
{{- end }}

{{- define "ddp.tolerations" -}}
{{- $tolerations := .Values.tolerations -}}
{{- $seconds := .Values.tolerateLossSeconds -}}
{{- if not (kindIs "invalid" $seconds) }}
{{- range list "not-ready" "unreachable" }}
{{- $tolerations = append $tolerations (dict
    "key" (printf "node.kubernetes.io/%s" .)
    "operator" "Exists"
    "effect" "NoExecute"
    "tolerationSeconds" (int64 $seconds)
) }}
{{- end }}
{{- end }}
{{- with $tolerations }}{{ toYaml . }}{{ end }}
{{- end }}

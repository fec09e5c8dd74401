{{- /* What selects the pods of a release. */ -}}
{{- define "gpulab.selectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* Labels of every object; a list of the chart's scope and the component, as in (list . "server"). */ -}}
{{- define "gpulab.labels" -}}
{{- $component := index . 1 -}}
{{- with index . 0 -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "gpulab.selectorLabels" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/component: {{ $component }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}
{{- end }}

{{- /* The image with its tag: the chart's appVersion where values name none. */ -}}
{{- define "gpulab.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- /* The security context of every pod. */ -}}
{{- define "gpulab.podSecurity" -}}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- /* The security context of every container. */ -}}
{{- define "gpulab.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
{{- end }}

{{- /* Variables of a container, from a mapping of names to texts. */ -}}
{{- define "gpulab.env" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end }}

{{- /* A number or a word as --name=value, a truth as --name or --no-name; nothing for null. */ -}}
{{- define "gpulab.argument" -}}
{{- if kindIs "bool" .value }}
- "{{ ternary "--" "--no-" .value }}{{ .name }}"
{{- else if not (kindIs "invalid" .value) }}
- {{ printf "--%s=%v" .name (ternary (.value | int64) .value (and (kindIs "float64" .value) (eq (floor .value) .value))) | quote }}
{{- end }}
{{- end }}

{{- /* A probe by HTTP on the port named http. */ -}}
{{- define "gpulab.probe" -}}
httpGet:
  path: {{ .path }}
  port: http
periodSeconds: {{ .periodSeconds }}
timeoutSeconds: {{ .timeoutSeconds }}
failureThreshold: {{ .failureThreshold }}
{{- end }}

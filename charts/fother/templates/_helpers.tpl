{{/*
Names are the same in every release: there is one fother in a cluster, as there is one set of its kinds.
*/}}

{{- define "fother.selector" -}}
app.kubernetes.io/name: fother
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "fother.labels" -}}
app.kubernetes.io/name: fother
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "fother.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* The controller, as the API server sees it. */}}
{{- define "fother.user" -}}
system:serviceaccount:{{ .Release.Namespace }}:fother
{{- end }}

{{/* Where nothing is ever healed, as a CEL list. */}}
{{- define "fother.never" -}}
['kube-system', 'kube-public', 'kube-node-lease', '{{ .Release.Namespace }}']
{{- end }}

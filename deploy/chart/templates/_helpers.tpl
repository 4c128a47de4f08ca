{{- define "superpos.name" -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- end }}

{{- define "superpos.selector" -}}
{app.kubernetes.io/name: superpos, app.kubernetes.io/instance: {{ .Release.Name }}}
{{- end }}

{{- define "superpos.labels" -}}
app.kubernetes.io/name: superpos
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "superpos.metadata" -}}
name: {{ include "superpos.name" . }}
namespace: {{ .Release.Namespace }}
labels: {{- include "superpos.labels" . | nindent 2 }}
{{- end }}

{{- define "superpos.container" -}}
image: "{{ .Values.image.repository }}
  {{- with .Values.image.digest }}@{{ . }}{{ else }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}"
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve]
ports: [{name: http, containerPort: 8080, protocol: TCP}]
{{- $env := dict "secrets_dir" "/etc/superpos/secrets" "host" "0.0.0.0" "port" 8080 "require_keys" true }}
{{- range $name, $value := .Values.settings }}{{ $_ := set $env $name $value }}{{ end }}
{{- $_ := set (set $env "drain_delay_s" .Values.drain.delayS) "drain_timeout_s" .Values.drain.timeoutS }}
env:
  {{- range $name, $value := $env }}
  - name: SUPERPOS_{{ upper $name }}
    {{- /* values' numbers are floats, of which toString makes 1.28e+08 */}}
    value: {{ kindIs "string" $value | ternary $value (toJson $value) | quote }}
  {{- end }}
  {{- if not (hasKey $env "threads") }}
  - {name: SUPERPOS_THREADS, valueFrom: {resourceFieldRef: {resource: limits.cpu, divisor: "1"}}}
  {{- end }}
startupProbe:
  {httpGet: {path: /healthz/startup, port: http}, periodSeconds: 2, failureThreshold: {{ div .Values.startupLimitS 2 }}}
livenessProbe: {httpGet: {path: /healthz/live, port: http}, timeoutSeconds: 5}
readinessProbe: {httpGet: {path: /healthz/ready, port: http}, periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 2}
lifecycle: {preStop: {sleep: {seconds: {{ .Values.drain.preStopS }}}}}
resources: {{- toYaml .Values.resources | nindent 2 }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  capabilities: {drop: [ALL]}
  seccompProfile: {type: RuntimeDefault}
volumeMounts:
  - {name: secrets, mountPath: /etc/superpos/secrets, readOnly: true}
  - {name: data, mountPath: /var/lib/superpos}
  - {name: tmp, mountPath: /tmp}
  {{- if .Values.redis.tlsSecret }}
  - {name: redis-tls, mountPath: /etc/superpos/redis-tls, readOnly: true}
  {{- end }}
{{- end }}

{{- define "superpos.volumes" -}}
- name: secrets
  secret:
    secretName: {{ .Values.secret }}
    items:
      - {key: superpos_admin_key, path: superpos_admin_key}
      {{- if .Values.redis.enabled }}
      - {key: superpos_registry, path: superpos_registry}
      {{- end }}
- name: data
  {{- if .Values.sqliteClaim }}
  persistentVolumeClaim: {claimName: {{ .Values.sqliteClaim }}}
  {{- else }}
  emptyDir: {sizeLimit: 1Gi}
  {{- end }}
- name: tmp  # holds uploads, together at most bodies_bytes
  emptyDir: {medium: Memory, sizeLimit: 192Mi}
{{- with .Values.redis.tlsSecret }}
- {name: redis-tls, secret: {secretName: {{ . }}}}
{{- end }}
{{- end }}

{{- define "superpos.egress" -}}
- ports: [{port: 53, protocol: UDP}, {port: 53, protocol: TCP}]
{{- if .Values.redis.enabled }}
- ports:
    {{- range .Values.networkPolicy.redis.ports }}
    - {port: {{ . }}, protocol: TCP}
    {{- end }}
  to: {{- toYaml .Values.networkPolicy.redis.to | nindent 4 }}
{{- end }}
{{- end }}

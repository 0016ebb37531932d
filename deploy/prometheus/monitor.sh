#!/usr/bin/env bash
# Starts the service and, where it is installed, Prometheus with our rules and alerts; says where to look. Ctrl-C stops both.
#   deploy/prometheus/monitor.sh [options of `trana serve`]
# TRANA_LISTEN and TRANA_METRICS_LISTEN are the service's; PROMETHEUS_LISTEN and PROMETHEUS_DATA say where Prometheus
# listens and keeps what it scraped; TRANA is the command.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
metrics=${TRANA_METRICS_LISTEN:-127.0.0.1:9464}
prometheus=${PROMETHEUS_LISTEN:-127.0.0.1:9090}
data=${PROMETHEUS_DATA:-.trana/prometheus}

if command -v prometheus >/dev/null; then
    mkdir -p "$data"
    cp "$here/rules.yml" "$here/alerts.yml" "$data"
    # Prometheus would say each minute that it cannot watch a folder that no Ray has made.
    without_ray='/job_name: ray$/,/refresh_interval/d'
    [ ! -d /tmp/ray ] || without_ray=
    sed "s/127\.0\.0\.1:9464/$metrics/; s/127\.0\.0\.1:9090/$prometheus/; $without_ray" "$here/prometheus.yml" \
        >"$data/prometheus.yml"
    prometheus --config.file="$data/prometheus.yml" --storage.tsdb.path="$data/data" --web.listen-address="$prometheus" \
        --enable-feature=exemplar-storage --log.level=warn &
    child=$!
    # What a terminal sends at Ctrl-C reaches both; this is for every other end of the service.
    trap 'kill "$child" 2>/dev/null || true; wait "$child" || true' EXIT
    echo "Graphs   http://$prometheus/ (and alerts: in its menu)"
    echo "Grafana  add http://$prometheus as a source: deploy/grafana/README.md"
else
    echo "Prometheus is not installed (Debian: apt install prometheus): there are numbers, but no graphs and no alerts."
fi
echo "Metrics  http://$metrics/metrics"
"${TRANA:-trana}" serve "$@"

# The rules of config/prometheus.
# shellcheck shell=bash

need_promtool() {
    have promtool && return 0
    can_install_packages || die "promtool is needed: it is part of Prometheus (Debian and Ubuntu: the package prometheus)"
    install_servers prometheus
}

check_alerts() {
    step "Alert rules"
    run promtool check config config/prometheus/prometheus.yml
    run promtool check config config/prometheus/compose.yml
    run promtool test rules config/prometheus/alerts_test.yml
}

# Everything a newcomer needs: `make demo` and `make test`.

.DEFAULT_GOAL := build
.PHONY: check build demo test clients

check: ## lists everything missing at once
	@scripts/check-tools.sh

build: check ## the release binary, target/release/corral
	cargo build --release --locked --package corral

demo: build ## from job titles to a served classifier
	@scripts/demo.sh $(DEMO)

test: check ## all tests
	@scripts/test.sh

clients: check ## programs of the official clients over real containers
	@scripts/clients.sh

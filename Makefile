.DEFAULT_GOAL := help
.PHONY: help install demo test test-fast test-long check doctor lock clean
bin := .venv/bin

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

install: ## everything into .venv, once: CUDA builds where there is an NVIDIA GPU, CPU builds elsewhere
	@.ci/install.sh

demo: install ## the whole of the recipe s2a-geonames, from prompts to report
	$(bin)/s2d run s2a-geonames

test: install ## every test but the long ones and those that need a GPU
	$(bin)/python .ci/test.py

# Where compiled files are not kept, each process that a test starts would compile the package again.
test test-fast: export PYTHONDONTWRITEBYTECODE :=

test-fast: install ## the tests that need no Ray, engine, training or browser, on every core
	$(bin)/pytest -n auto --dist worksteal -m "not (ray or engine or train or browser or slow or long or gpu)"

test-long: install ## the long tests, and the GPU's where there is one
	$(bin)/pytest -m "long or gpu"

check: install ## lint, format, types and the direction of imports
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy
	$(bin)/lint-imports

doctor: install ## what this machine has, what is missing, what to type
	$(bin)/s2d doctor

lock: install ## the lock files anew, with today's versions
	$(bin)/python .ci/lock.py cpu
	$(bin)/python .ci/lock.py gpu
	$(bin)/python .ci/lock.py audit

clean: ## remove .venv and what tools leave behind; results stay
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

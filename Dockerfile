# docker build -t shard-migrate . && docker run --rm shard-migrate --help
# docs/operations.md has a run with a directory of yours.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml setup.py README.md LICENSE constraints.txt ./
COPY etl etl
RUN python -m venv /opt/shard-migrate \
    && /opt/shard-migrate/bin/pip install --no-cache-dir -c constraints.txt .

FROM python:3.13-slim
COPY --from=build /opt/shard-migrate /opt/shard-migrate
ENV PATH=/opt/shard-migrate/bin:$PATH
# .env and relative paths belong to this directory: mount yours here.
WORKDIR /data
USER 1000:1000
ENTRYPOINT ["shard-migrate"]
CMD ["--help"]

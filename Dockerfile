# The service beside one dbt project:
#   docker build -t sao-events .
#   docker run --publish 127.0.0.1:8080:8080 --volume "$PWD:/project" sao-events
# The project, its profiles.yml and its state (.sao) are in /project, which must be writable for user 1000.
FROM python:3.12-slim

RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /usr/src/sao-events
COPY requirements/runtime.txt requirements/
RUN pip install --no-cache-dir --no-deps --requirement requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY sao_events sao_events
RUN pip install --no-cache-dir --no-deps .

RUN useradd --create-home --uid 1000 sao && install --directory --owner=sao --group=sao /project
USER sao
WORKDIR /project

EXPOSE 8080
STOPSIGNAL SIGINT
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8080/healthz', timeout=4)"]

ENTRYPOINT ["sao-events"]
# All interfaces only because they are the container's own: what is reachable is what --publish says.
CMD ["serve", "--host", "0.0.0.0", "--port", "8080"]

# Workers of Beam's runners on other machines. Untested on a cluster; the versions must be those of the machine that submits.
#   docker build -f docker/worker.Dockerfile -t REGISTRY/fistful-worker .
FROM apache/beam_python3.11_sdk:2.77.0
COPY . /src
RUN pip install --no-cache-dir '/src[s3,gcs]' && rm -rf /src
ENV OMP_NUM_THREADS=1
ENTRYPOINT ["/opt/apache/beam/boot"]

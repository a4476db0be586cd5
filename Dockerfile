# The study with the versions of the lock. Build in a clean checkout:
#   docker build --build-arg CODE_VERSION=$(git rev-parse --short=12 HEAD) -t cds .
#   docker run --rm -v "$PWD/results:/study/results" -v "$PWD/data:/study/data" cds --profile smoke
# Every run records the commit, which is written to a file, since there is no git in the image.
FROM python:3.11-slim
COPY requirements.lock /tmp/
RUN python -m venv /opt/venv && /opt/venv/bin/pip install --no-cache-dir --require-hashes -r /tmp/requirements.lock
ENV VIRTUAL_ENV=/opt/venv PATH=/opt/venv/bin:$PATH HOME=/tmp
COPY . /study
ARG CODE_VERSION
RUN test -n "$CODE_VERSION" && echo "$CODE_VERSION" > /study/code_version.txt
WORKDIR /study
ENTRYPOINT ["./run_all.sh"]

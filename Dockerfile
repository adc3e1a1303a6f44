# docker build -t peerbook . && docker run -p 8000:8000 -v peerbook:/data -e BASE_URL=https://book.example.org peerbook
FROM python:3.13-slim

RUN useradd --system --create-home peerbook && mkdir /data && chown peerbook /data
WORKDIR /srv/peerbook
COPY requirements.txt .
RUN pip install --no-cache-dir --require-hashes -r requirements.txt
COPY app app

USER peerbook
VOLUME /data
ENV HOST=0.0.0.0 DATA_DIR=/data PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
# The exec form, so that a stop reaches the server and not a shell.
CMD ["python", "-m", "app"]

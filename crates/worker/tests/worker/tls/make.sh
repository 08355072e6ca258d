#!/bin/sh
# Makes the certificates of the tests: an authority of their own and a server on loopback,
# valid for a hundred years. Run it in this directory; it needs openssl.
set -eu
openssl ecparam -name prime256v1 -genkey -noout -out authority-key.pem
openssl req -x509 -new -key authority-key.pem -days 36500 -subj "/CN=Corral test authority" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign" -out authority.pem
openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out server-key.pem
openssl req -new -key server-key.pem -subj "/CN=localhost" -out server.csr
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\n' >extensions
openssl x509 -req -in server.csr -CA authority.pem -CAkey authority-key.pem -CAcreateserial \
    -days 36500 -extfile extensions -out server.pem
rm -f server.csr extensions authority-key.pem authority.srl

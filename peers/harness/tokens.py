"""Tokens for OAUTHBEARER, signed (RS256) with the example key of RFC 7515, A.2, which is nobody's secret."""

import base64
import hashlib
import json
import time

ISSUER, AUDIENCE = "https://issuer.example", "kafka"
_MODULUS = (
    "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_"
    "YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uD"
    "Zlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"
)
_EXPONENT = (
    "Eq5xpGnNCivDflJsRQBXHx1hdR1k6Ulwe2JZD50LpXyWPEAeP88vLNO97IjlA7_GQ5sLKMgvfTeXZx9SE-7YwVol2NXOoAJe46sui395IW_GO-pWJ1O0BkTG"
    "oVEn2bKVRUCgu-GjBVaYLU6f3l9kJfFNS3E0QbVdxzubSu3Mkqzjkn439X0M_V51gfpRLI9JYanrC4D4qAdGcopV_0ZHHzQlBjudU2QvXt4ehNYTCBr6XCLQ"
    "UShb1juUO1ZdiYoFaFQT5Tw8bGUl_x_jTj3ccPDVZFD9pIuhLhBOneufuBiB4cS98l2SR_RQyGWSeWjnczT0QU91p1DhOVRuOopznQ"
)
# What stands before a SHA-256 in a signature of PKCS #1.
_SHA256 = bytes.fromhex("3031300d060960864801650304020105000420")
JWKS = json.dumps({"keys": [{"kty": "RSA", "use": "sig", "kid": "example", "n": _MODULUS, "e": "AQAB"}]})


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(text: str) -> int:
    return int.from_bytes(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")


def signature(message: bytes) -> bytes:
    modulus = _number(_MODULUS)
    length = (modulus.bit_length() + 7) // 8
    hashed = _SHA256 + hashlib.sha256(message).digest()
    padded = b"\x00\x01" + b"\xff" * (length - len(hashed) - 3) + b"\x00" + hashed
    return pow(int.from_bytes(padded, "big"), _number(_EXPONENT), modulus).to_bytes(length, "big")


def signed(user: str, lasts_s: float = 300, **claims) -> tuple[str, float]:
    """A token and when it ends, as confluent-kafka wants them."""
    ends = time.time() + lasts_s
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "exp": int(ends)} | claims
    parts = ({"alg": "RS256", "kid": "example"}, said)
    text = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
    return f"{text}.{_encoded(signature(text.encode()))}", ends

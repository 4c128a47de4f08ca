"""What tests of refusals over HTTP check with: the body of a problem."""

import httpx2


def check_problem(response: httpx2.Response, status: int, code: str, *mentions: str) -> None:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["code"] == code
    assert body["type"] == f"urn:superpos:problem:{code}"
    assert body["request_id"] == response.headers["X-Request-ID"]
    for mention in mentions:
        assert mention in body["detail"], body["detail"]

"""What the page needs besides Gradio's own routes: Plotly, a tab's signs of life, and its run as a file."""

from __future__ import annotations

import re

from plotly.offline import get_plotlyjs
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from widgets import languages
from widgets.web import static, takeaway
from widgets.web.sessions import Sessions
from widgets.web.text import server as text


def of(sessions: Sessions) -> list[Route]:
    """The routes; each finds its tab by the token in the request, which the gate has checked."""

    async def plotly(request: Request) -> Response:
        # From the installed package; the browser keeps it for a day.
        cache = {"Cache-Control": "public, max-age=86400"}
        return Response(get_plotlyjs(), media_type="text/javascript", headers=cache)

    async def drawn(request: Request) -> Response:
        number = request.query_params.get("number", "")
        if number.isdecimal() and len(number) < 16:
            sessions.drawn(request.query_params.get("token", ""), int(number))
        return Response(status_code=204)

    async def alive(request: Request) -> Response:
        sessions.alive(request.query_params.get("token", ""))
        return Response(status_code=204)

    def run_file(request: Request) -> Response:
        session = sessions.find(request.query_params.get("token", ""))
        run = session.run if session is not None else None
        if run is None:
            return JSONResponse({"detail": text.NO_RUN}, 404)
        with run.lock:
            content = takeaway.run_file(run.id, run.experiment, run.state)
        named = {
            "Content-Disposition": f'attachment; filename="parallel-lab-{run.id}.json"',
            "Cache-Control": "no-store",
        }
        return Response(content, media_type="application/json", headers=named)

    def table_file(request: Request) -> Response:
        session = sessions.find(request.query_params.get("token", ""))
        figure, step = request.query_params.get("figure", ""), request.query_params.get("step", "")
        content = None
        if session is not None:
            with languages.speaking(session.language):
                chosen = int(step) if re.fullmatch(r"[0-9]{1,15}", step) else None
                content = takeaway.table_file(session, figure, chosen)
        if content is None:
            return JSONResponse({"detail": text.NO_RUN}, 404)
        named = {
            "Content-Disposition": f'attachment; filename="parallel-lab-{figure}.csv"',
            "Cache-Control": "no-store",
        }
        return Response(content, media_type="text/csv; charset=utf-8", headers=named)

    return [
        Route(f"/{static.PLOTLY_PATH}", plotly),
        Route(f"/{static.DRAWN_PATH}", drawn, methods=["POST"]),
        Route(f"/{static.ALIVE_PATH}", alive, methods=["POST"]),
        Route(f"/{static.RUN_PATH}", run_file),
        Route(f"/{static.TABLE_PATH}", table_file),
    ]

"""Checks of errors: codes, reasons and details that a program can act on."""

import grpc

from harness import expect, refused, seconds

Code = grpc.StatusCode


def unknown_job(api):
    """an unknown id is NOT_FOUND with reason JOB_NOT_FOUND in every call about one job."""
    unknown = "0" * 26
    with refused(Code.NOT_FOUND, "JOB_NOT_FOUND") as error:
        api.Status(job_id=unknown)
    expect(unknown in str(error), "the id is not named", error)
    for call in (api.Wait, api.Kill, api.Cancel, api.Delete, api.Rerun, api.UpdateLabels):
        with refused(Code.NOT_FOUND, "JOB_NOT_FOUND"):
            call(job_id=unknown)
    with refused(Code.NOT_FOUND, "JOB_NOT_FOUND"):
        list(api.TailLog(job_id=unknown))


def ids_are_no_paths(api):
    """an id that is none is refused before it comes near a path."""
    for bad in ("../x", "", "a/b", "\0", "x" * 5000, "ABCD\u00e9"):
        try:
            api.Status(job_id=bad)
        except grpc.RpcError as error:
            expect(error.code() in (Code.INVALID_ARGUMENT, Code.NOT_FOUND), repr(bad), error)
        else:
            expect(False, f"accepted: {bad!r}")


def bad_spec_names_every_field(api):
    """a bad spec is refused once, with each field that is wrong."""
    with refused(Code.INVALID_ARGUMENT, "INVALID_SPEC") as error:
        api.Exec(
            spec={
                "argv": ["true"],
                "shell": "true",
                "working_dir": "not/absolute",
                "stop_signal": 99,
                "timeout": seconds(-1),
                "labels": {"Bad Key": "x"},
                "display_name": "x" * 300,
            }
        )
    expect("BadRequest" in error, "no BadRequest", error)
    fields = {violation.field for violation in error["BadRequest"].field_violations}
    for name in ("working_dir", "stop_signal", "timeout", "labels", "display_name"):
        expect(any(name in field for field in fields), f"{name} is not named", error)
    for violation in error["BadRequest"].field_violations:
        expect(violation.description, "a field without a description", error)


def each_bad_field_is_refused(api):
    """each field out of its range is refused by name."""
    bad = {
        "argv": {"argv": []},
        "env": {"argv": ["true"], "env": {"A=B": "x"}},
        "secret_env": {"argv": ["true"], "secret_env": {"": "x"}},
        "env_files": {"argv": ["true"], "env_files": ["relative"]},
        "stdin": {"argv": ["true"], "stdin": b"x" * (1024 * 1024 + 1)},
        "idle_timeout": {"argv": ["true"], "idle_timeout": seconds(0)},
        "queue_timeout": {"argv": ["true"], "queue_timeout": seconds(-2)},
        "drain_timeout": {"argv": ["true"], "drain_timeout": seconds(-2)},
        "stop_grace_period": {"argv": ["true"], "stop_grace_period": seconds(-2)},
    }
    for name, spec in bad.items():
        with refused(Code.INVALID_ARGUMENT, "INVALID_SPEC") as error:
            api.Exec(spec=spec)
        fields = [violation.field for violation in error["BadRequest"].field_violations]
        expect(any(name in field for field in fields), f"{name} is not named", error)
    with refused(Code.INVALID_ARGUMENT):
        api.Exec()


def unsupported_is_refused(api):
    """what this server cannot do yet is refused with the field, never ignored."""
    info = api.GetServerInfo()
    if "retry" in info.features:
        return
    with refused(Code.INVALID_ARGUMENT, "UNSUPPORTED") as error:
        api.Exec(spec={"argv": ["true"], "retry": {"max_attempts": 2}})
    expect("retry" in str(error), "the field is not named", error)


def bad_page(api):
    """a bad page token or size is refused."""
    with refused(Code.INVALID_ARGUMENT):
        api.List(page_token="no token")
    with refused(Code.INVALID_ARGUMENT):
        api.List(page_size=-1)


CHECKS = [
    unknown_job,
    ids_are_no_paths,
    bad_spec_names_every_field,
    each_bad_field_is_refused,
    unsupported_is_refused,
    bad_page,
]

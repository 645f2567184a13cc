"""The build of the images, and checks of them."""

from tests.compose.project import NAME, Project

__all__ = ["WORKER", "build_images"]

WEB, WORKER = f"{NAME}:web", f"{NAME}:worker-cpu"


def build_images(project: Project) -> str:
    """Build and check the images, and return a line with their sizes.

    They must run as an ordinary user and contain no models, and the API's image must contain no torch.
    """
    project.compose("build", STOKER_REVISION="one")
    sizes = ", ".join(f"{image} {project.image_mib(image)} MiB" for image in (WEB, WORKER))
    program = "import importlib.util as i, os; print(os.getuid(), i.find_spec('torch') is None)"
    for image, torch_free in ((WEB, True), (WORKER, False)):
        output = project.docker.run("docker", "run", "--rm", image, "python3", "-c", program).split()
        assert output == ["10001", str(torch_free)], (image, output)
        models = project.docker.run("docker", "run", "--rm", image, "ls", "-A", "models")
        assert not models, models
    return f"images are built: {sizes}"

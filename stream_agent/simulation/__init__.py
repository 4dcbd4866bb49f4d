"""The embedded simulator: course, vehicle, camera, environment, expert; numpy and OpenCV only."""

"""What can be set in the embedded simulator."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from stream_agent.bounded_settings import check, choice, quantity, SettingsError
from stream_agent.contract.settings import IMAGE, IMU, ODOMETRY, SCAN
from stream_agent.share import ParameterFiles
from stream_agent.simulation.camera import Camera

VEHICLES = ('differential', 'bicycle')

#: Relative topics on which the simulator publishes what it measures, by type.
TOPICS = {ODOMETRY: 'odom', IMU: 'imu', SCAN: 'scan', IMAGE: 'image'}


@dataclass(frozen=True)
class SimulationSettings:
    """
    Everything but the seed that an episode depends on.

    :raises SettingsError: If a number is outside its range, or a word not among those allowed.
    """

    rate: float = quantity(30.0, 'Hz', 10.0, 120.0, 'images per second')
    width_px: int = quantity(160, '', 32, 640, 'columns of an image')
    height_px: int = quantity(120, '', 24, 480, 'rows of an image')
    coloured: bool = choice(False, 'images are RGB, otherwise grey')
    field_of_view: float = quantity(1.4, 'rad', 0.5, 2.4, 'horizontal angle of view')
    camera_height: float = quantity(0.25, 'm', 0.05, 2.0, 'of the camera above the ground')
    camera_forward: float = quantity(
        0.1, 'm', -1.0, 1.0, "of the camera ahead of the vehicle's axle")
    camera_pitch: float = quantity(0.35, 'rad', 0.0, 1.2, 'of the camera, downwards')
    exposure: float = quantity(0.008, 's', 0.0, 0.1, 'time that an image blurs over; 0: none')
    camera_delay: float = quantity(
        0.0, 's', 0.0, 1.0, 'from the capture of an image until it is handed out')
    actuator_delay: float = quantity(
        0.0, 's', 0.0, 1.0, "from a command until it acts, before the actuators' lag")
    vehicle: str = choice(
        'differential', 'differential (two driven wheels) or bicycle (a car)', VEHICLES)
    speed_time_constant: float = quantity(
        0.1, 's', 0.0, 2.0, 'of the lag between commanded and true speed')
    turn_time_constant: float = quantity(
        0.1, 's', 0.0, 2.0, 'of the lag of the yaw rate, or of the steering angle')
    target_speed: float = quantity(0.8, 'm/s', 0.05, 2.0, 'of the expert')
    look_ahead: float = quantity(
        0.5, 'm', 0.1, 2.0, 'along the course to the point that the expert steers to')
    max_yaw_rate: float = quantity(1.5, 'rad/s', 0.1, 6.0, "bound of the expert's commands")
    lane_width: float = quantity(0.6, 'm', 0.3, 0.8, 'from border to border')
    randomized: bool = choice(
        True, "colours, light, noise and the camera's mount differ by seed; otherwise only the "
        'course and the places of clutter do')
    noise: float = quantity(1.0, '', 0.0, 5.0, "factor on the sensor's noise; 0: none")
    light: float = quantity(1.0, '', 0.0, 2.0, 'factor on uneven and changing light; 0: none')
    clutter: float = quantity(
        1.0, '', 0.0, 5.0, 'factor on patches, stains and things on the horizon; 0: none')
    signs: bool = choice(
        False, 'plates beside the lane command the speed, which the expert obeys instead of '
        'target_speed')
    scan_rays: int = quantity(
        0, '', 0, 2000, 'rays of a laser scanner, which sees walls 0.1 lane widths beyond the '
        'borders of the lane; 0: there is none')
    scan_angle_min: float = quantity(
        -2.0, 'rad', -6.2832, 6.2832, 'of the first ray, positive to the left; 0 is ahead')
    scan_angle_max: float = quantity(2.0, 'rad', -6.2832, 6.2832, 'of the last ray')
    scan_range_min: float = quantity(
        0.05, 'm', 0.0, 10.0, 'nearest that the scanner measures; what is nearer is -inf')
    scan_range_max: float = quantity(
        6.0, 'm', 0.1, 100.0, 'farthest that the scanner measures; what is farther is +inf')
    scan_forward: float = quantity(
        0.1, 'm', -1.0, 1.0, "of the scanner ahead of the vehicle's axle")
    scan_noise: float = quantity(0.01, 'm', 0.0, 1.0, 'standard deviation of a range')
    scan_dropout: float = quantity(
        0.01, '', 0.0, 1.0, 'share of the rays that do not return, which are +inf')
    odometry_scale: float = quantity(
        0.0, '', 0.0, 0.5, 'greatest share by which the speed that the wheels give is wrong, and '
        'the yaw rate likewise; other shares on every course')
    odometry_speed_noise: float = quantity(
        0.0, 'm/s', 0.0, 1.0, 'standard deviation of the speed that the wheels give')
    odometry_yaw_noise: float = quantity(
        0.0, 'rad/s', 0.0, 3.0, 'standard deviation of the yaw rate that the wheels give')
    imu_yaw_bias: float = quantity(
        0.0, 'rad/s', 0.0, 1.0, "greatest offset of the IMU's yaw rate, another on every course")
    imu_yaw_noise: float = quantity(
        0.0, 'rad/s', 0.0, 3.0, "standard deviation of the IMU's yaw rate")
    imu_acceleration_noise: float = quantity(
        0.0, 'm/s2', 0.0, 20.0, "standard deviation of the IMU's accelerations")

    def __post_init__(self) -> None:
        check(self)
        if self.scan_rays == 1:
            raise SettingsError('scan_rays is 1; set it to 0 for none, or to 2 or more')
        turn = self.scan_angle_max - self.scan_angle_min
        if not 0.01 <= turn <= 6.2832:
            raise SettingsError(
                f'scan_angle_min is {self.scan_angle_min:g} and scan_angle_max '
                f'{self.scan_angle_max:g} rad; set the second to 0.01 to 6.2832 (a turn) more '
                'than the first')
        if self.scan_range_min >= self.scan_range_max:
            raise SettingsError(
                f'scan_range_min is {self.scan_range_min:g} and scan_range_max '
                f'{self.scan_range_max:g} m; set the second to more than the first')

    @property
    def period(self) -> float:
        """From one image to the next [s]."""
        return 1.0 / self.rate

    @property
    def camera(self) -> Camera:
        """Return the camera as mounted without jitter."""
        return Camera(self.width_px, self.height_px, self.field_of_view, self.camera_height,
                      self.camera_forward, self.camera_pitch)

    def as_compared(self) -> dict[str, Any]:
        """
        Return what trainings and rows of studies need to have in common to be the same.

        Those from before there were sensors besides the camera say nothing of them.
        """
        usual = {item.name: item.default for item in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != usual[name]
                or not name.startswith(('scan_', 'odometry_', 'imu_'))}


def read_settings(path: Path) -> SimulationSettings:
    """
    Read what a parameter file of ROS says about the simulator's course, camera and robot.

    :raises ParameterFileError: If it is not such a file.
    :raises SettingsError: If a value cannot be simulated.
    """
    given = ParameterFiles([path]).of('/simulation')
    try:
        return SimulationSettings(**{item.name: given[item.name]
                                     for item in fields(SimulationSettings) if item.name in given})
    except SettingsError as error:
        raise SettingsError(f"'{path}': {error}") from None

"""The robots of the embedded simulator as models for Gazebo, with their camera."""

from stream_agent.gazebo.world import Content, document, plugin
from stream_agent.simulation.camera import Camera
from stream_agent.simulation.vehicle import Bicycle, DifferentialDrive

NAME = 'robot'
CAMERA_FRAME = 'camera_optical'
# Box of the chassis: length, width, height [m], and how far above the ground it begins.
CHASSIS = (0.24, 0.14, 0.05)
CLEARANCE = 0.03
CHASSIS_MASS = 1.6
WHEEL_RADIUS, WHEEL_WIDTH, WHEEL_MASS = 0.04, 0.025, 0.1
TRACK = 0.18
SIDES = (('left', 0.5 * TRACK), ('right', -0.5 * TRACK))
# Of something as large as a wheel, taken for a sphere.
WHEEL_INERTIA = {'mass': WHEEL_MASS, 'inertia': dict.fromkeys(
    ('ixx', 'iyy', 'izz'), 0.4 * WHEEL_MASS * WHEEL_RADIUS ** 2)}
# From the differential drive's axle to its caster, which slides.
CASTER_DISTANCE = 0.13
# A message every fourth step of physics.
ODOMETRY_RATE = 62.5
# The visibility bit of the robot, and all others: its camera does not see it. The two highest bits
# are the renderer's own.
OF_ROBOT = 2
ALL_ELSE = 2 ** 30 - 1 - OF_ROBOT
# Above the greatest angle that is commanded, so that the joint never decides.
STEERING_STOP = 1.2
# Settings of both kinds of drive.
DRIVE = {
    'wheel_separation': TRACK, 'wheel_radius': WHEEL_RADIUS, 'topic': 'cmd_vel',
    'odom_topic': 'odom', 'tf_topic': 'odom_tf', 'odom_publish_frequency': ODOMETRY_RATE,
    'frame_id': 'odom', 'child_frame_id': 'base_link'}


def robot_file(rate: float, camera: Camera, vehicle: Bicycle | DifferentialDrive) -> str:
    """
    Return a robot as SDF; its origin is where the vehicle's pose is, on the ground.

    :param rate: Of the camera [Hz].
    :param vehicle: Whose kind, lags and limits it has.
    """
    middle, links, joints, drive = (
        car_parts(vehicle) if isinstance(vehicle, Bicycle) else differential_parts(vehicle))
    return document({'model': {
        '@name': NAME, 'link': [base_link(rate, camera, middle), *links], 'joint': joints,
        'plugin': [drive, plugin(
            'OdometryPublisher', odom_frame='world', robot_base_frame='base_link',
            odom_publish_frequency=ODOMETRY_RATE, odom_topic='ground_truth',
            tf_topic='ground_truth_tf', dimensions=2)]}})


def base_link(rate: float, camera: Camera, middle: float) -> Content:
    """Return chassis and camera; the chassis reaches as far ahead of its middle as behind."""
    length, width, height = CHASSIS
    pose = (middle, 0.0, CLEARANCE + 0.5 * height, 0, 0, 0)
    box = {'box': {'size': CHASSIS}}
    inertia = {'ixx': CHASSIS_MASS / 12 * (width ** 2 + height ** 2),
               'iyy': CHASSIS_MASS / 12 * (length ** 2 + height ** 2),
               'izz': CHASSIS_MASS / 12 * (length ** 2 + width ** 2)}
    return {'@name': 'base_link',
            'inertial': {'pose': pose, 'mass': CHASSIS_MASS, 'inertia': inertia},
            'collision': {'@name': 'body', 'pose': pose, 'geometry': box},
            'visual': painted('chassis', box, (0.15, 0.35, 0.6)) | {'pose': pose},
            'sensor': camera_sensor(rate, camera)}


def camera_sensor(rate: float, camera: Camera) -> Content:
    """Return the camera of the embedded simulator; SDF also applies the yaw last."""
    return {'@name': 'camera', '@type': 'camera',
            'pose': (camera.forward, 0.0, camera.height, 0.0, camera.pitch, camera.yaw),
            'update_rate': rate, 'always_on': True, 'topic': 'image',
            'camera': {
                'camera_info_topic': 'camera_info', 'optical_frame_id': CAMERA_FRAME,
                'horizontal_fov': camera.field_of_view,
                'image': {'width': camera.width_px, 'height': camera.height_px,
                          # More would cost frames where there is no GPU.
                          'format': 'R8G8B8', 'anti_aliasing': 1},
                'clip': {'near': 0.02, 'far': 500.0}, 'visibility_mask': ALL_ELSE}}


Parts = tuple[float, list[Content], list[Content], Content]


def differential_parts(vehicle: DifferentialDrive) -> Parts:
    """Return the chassis' middle [m], two wheels and a sliding caster, joints, and the drive."""
    radius = 0.5 * WHEEL_RADIUS
    ball = {'sphere': {'radius': radius}}
    caster = {
        '@name': 'caster', 'pose': (CASTER_DISTANCE, 0, radius, 0, 0, 0),
        'inertial': WHEEL_INERTIA,
        'collision': {'@name': 'contact', 'geometry': ball, 'surface': {'friction': {
            'ode': {'mu': 0.0, 'mu2': 0.0}}}},
        'visual': painted('ball', ball, (0.2, 0.2, 0.2))}
    joints = [*(hinge('base_link', f'{side}_wheel') for side, _ in SIDES),
              {'@name': 'caster_joint', '@type': 'ball', 'parent': 'base_link',
               'child': 'caster'}]
    drive = plugin(
        'DiffDrive', left_joint='left_wheel_joint', right_joint='right_wheel_joint', **DRIVE,
        **bounds('linear_', vehicle.max_speed, vehicle.speed_time_constant),
        **bounds('angular_', vehicle.max_yaw_rate, vehicle.turn_time_constant))
    return (0.5 * CASTER_DISTANCE,
            [*(wheel(f'{side}_wheel', 0.0, y) for side, y in SIDES), caster], joints, drive)


def car_parts(vehicle: Bicycle) -> Parts:
    """Return a car's middle [m], four wheels, the front ones on knuckles, joints, and drive."""
    links, joints = [], []
    for side, y in SIDES:
        rear, knuckle, front = f'rear_{side}_wheel', f'{side}_knuckle', f'front_{side}_wheel'
        links += [wheel(rear, 0.0, y),
                  {'@name': knuckle, 'pose': (vehicle.wheel_base, y, WHEEL_RADIUS, 0, 0, 0),
                   'inertial': WHEEL_INERTIA},
                  wheel(front, vehicle.wheel_base, y)]
        joints += [hinge('base_link', rear),
                   hinge('base_link', knuckle, (0, 0, 1), STEERING_STOP), hinge(knuckle, front)]
    drive = plugin(
        'AckermannSteering', left_joint='rear_left_wheel_joint',
        right_joint='rear_right_wheel_joint', left_steering_joint='left_knuckle_joint',
        right_steering_joint='right_knuckle_joint', kingpin_width=TRACK,
        steering_limit=vehicle.max_steering, wheel_base=vehicle.wheel_base, **DRIVE,
        **bounds('', vehicle.max_speed, vehicle.speed_time_constant))
    return 0.5 * vehicle.wheel_base, links, joints, drive


def wheel(name: str, x: float, y: float) -> Content:
    """Return a wheel whose axle is the link's y axis."""
    lying = (0, 0, 0, 1.570796, 0, 0)
    shape = {'cylinder': {'radius': WHEEL_RADIUS, 'length': WHEEL_WIDTH}}
    return {'@name': name, 'pose': (x, y, WHEEL_RADIUS, 0, 0, 0), 'inertial': WHEEL_INERTIA,
            # A sphere touches the ground at one point; where a cylinder does varies by step.
            'collision': {'@name': 'contact', 'geometry': {'sphere': {'radius': WHEEL_RADIUS}}},
            'visual': painted('tyre', shape, (0.1, 0.1, 0.1)) | {'pose': lying}}


def hinge(parent: str, child: str, axis: tuple[int, int, int] = (0, 1, 0), stop: float = 1e16
          ) -> Content:
    """Return a joint about an axis of its child, by default a wheel's, up to a stop [rad]."""
    return {'@name': f'{child}_joint', '@type': 'revolute', 'parent': parent, 'child': child,
            'axis': {'xyz': axis, 'limit': {'lower': -stop, 'upper': stop}}}


def bounds(kind: str, most: float, time_constant: float) -> dict[str, float]:
    """
    Return limits of a speed and of its change.

    Gazebo has no lag; with its limits, a start takes as long as with the lag's initial slope.

    :param most: Greatest value, to both sides.
    :param time_constant: Of the lag [s]; no limit of the change if 0.
    """
    found = {f'max_{kind}velocity': most, f'min_{kind}velocity': -most}
    if time_constant:
        change = most / time_constant
        found |= {f'max_{kind}acceleration': change, f'min_{kind}acceleration': -change}
    return found


def painted(name: str, geometry: Content, colour: tuple[float, float, float]) -> Content:
    """Return a visible part of the robot, in a matt colour."""
    return {'@name': name, 'geometry': geometry, 'visibility_flags': OF_ROBOT, 'material': {
        'ambient': (*colour, 1.0), 'diffuse': (*colour, 1.0), 'specular': (0.0, 0.0, 0.0)}}

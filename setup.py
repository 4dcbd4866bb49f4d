"""Installs the package by pip and by colcon alike."""

from glob import glob
import os

from setuptools import find_packages, setup

package_name = 'stream_agent'


def share(folder):
    """Install a folder's files under share/, one data_files entry a folder, tree kept."""
    return [(os.path.join('share', package_name, path),
             [os.path.join(path, name) for name in sorted(names)])
            for path, _, names in os.walk(folder) if names]


setup(
    name=package_name,
    version='0.1.0',
    description='Streaming-rollout networks as real-time control agents.',
    maintainer='Stream Agent Maintainers',
    maintainer_email='maintainer@example.org',
    license='Apache-2.0',
    packages=find_packages(include=[package_name, package_name + '.*']),
    package_data={package_name: ['py.typed', 'measurement/report.html']},
    data_files=[
        ('share/ament_index/resource_index/packages', ['resource/' + package_name]),
        ('share/' + package_name, ['package.xml']),
        ('share/' + package_name + '/launch', glob('launch/*.launch.py')),
        *share('config'),
        # Not entry points: pip would put those into bin/, where neither `ros2 run` nor a
        # launch file looks.
        ('lib/' + package_name, sorted(glob('scripts/*'))),
    ],
    entry_points={'console_scripts': ['stream_agent = stream_agent.__main__:main']},
    python_requires='>=3.10',
    install_requires=[
        'matplotlib',
        'networkx',
        'numpy>=1.26',
        'pillow',
        'pyyaml',
        'safetensors',
        'scipy',
        'torch>=2.6',
        'tqdm',
    ],
    extras_require={
        # ROS 2 Jazzy for machines without an installation of it, and Kilted.
        'ros': ['ros-rclpy[fastrtps]==7.1.6', 'ros-common-interfaces==5.3.6'],
        'ros-kilted': ['ros-rclpy[fastrtps]==9.1.2', 'ros-common-interfaces==5.5.1'],
        # Needed, but any of its four packages will do, and each writes over the others' files; so
        # this is only for where there is none. Without what a display needs.
        'opencv': ['opencv-python-headless'],
        # Runtimes that the engine can let step a network; `export` needs the first.
        'onnx': ['onnx', 'onnxruntime', 'onnxscript'],
        'openvino': ['onnx', 'openvino'],
        # Compiled recurrences on CPUs, and recordings by rosbag2 with their compressions.
        'learning': ['numba', 'rosbags', 'lz4', 'backports.zstd; python_version < "3.14"'],
        # Curves of a training: `train --tensorboard`.
        'tensorboard': ['tensorboard'],
        'test': [
            'flake8',
            'flake8-docstrings',
            'flake8-import-order',
            'flake8-quotes',
            'hypothesis',
            'mypy',
            'pytest',
            'pytest-cov',
            'pytest-rerunfailures',
            'pytest-timeout',
            'pytest-xdist',
        ],
    },
    zip_safe=False,
)

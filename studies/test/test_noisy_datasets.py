"""Data by path: every public form is read as it was written, and what is wrong is said."""

import gzip

import cv2
import numpy as np
import pytest
from studies.noisy.datasets import DataError, load_cifar10, load_mnist
from studies.noisy.signs import load_signs
from support.data_files import (
    colours, idx, mosaic, NAMES, squares, write_cifar, write_mnist, write_signs)


@pytest.mark.parametrize('folder, packed', [('', True), ('', False), ('MNIST/raw', True)])
def test_mnist_is_read_from_its_own_files(tmp_path, folder, packed):
    write_mnist(tmp_path / folder, train=12, test=5, packed=packed)
    data = load_mnist(tmp_path)
    pixels, labels = squares(12)
    assert (data.train.pixels == pixels[:, None]).all() and (data.train.labels == labels).all()
    assert data.test.pixels.shape == (5, 1, 28, 28)


@pytest.mark.parametrize('by_folder', [True, False])
def test_mnist_is_read_from_an_archive(tmp_path, by_folder):
    (x, y), (x_test, y_test) = squares(12), squares(4)
    np.savez(tmp_path / 'mnist.npz', x_train=x, y_train=y, x_test=x_test, y_test=y_test)
    data = load_mnist(tmp_path if by_folder else tmp_path / 'mnist.npz')
    assert (data.train.pixels[:, 0] == x).all() and (data.test.labels == y_test).all()


def test_cifar_is_read_from_its_binary_version(tmp_path):
    *train, (x_test, y_test) = write_cifar(tmp_path)
    data = load_cifar10(tmp_path)
    assert (np.moveaxis(data.train.pixels, 1, -1) == np.concatenate([x for x, _ in train])).all()
    assert (data.train.labels == np.concatenate([y for _, y in train])).all()
    assert (np.moveaxis(data.test.pixels, 1, -1) == x_test).all()
    assert (data.test.labels == y_test).all()


def test_cifar_is_read_from_mosaics(tmp_path):
    """Several to a file, the last of them not full; without loss here, so that all is equal."""
    x, y = colours(1042)
    parts = [mosaic(part, '.webp', cv2.IMWRITE_WEBP_QUALITY, 101) for part in (x[:1000], x[1000:])]
    offsets = np.cumsum([0, *map(len, parts)])
    np.savez(tmp_path / 'cifar10_any.npz', train_mosaic=np.concatenate(parts), n_train=1042,
             train_offsets=offsets, y_train=y, test_mosaic=parts[1], n_test=42,
             test_offsets=[0, len(parts[1])], y_test=y[1000:])
    data = load_cifar10(tmp_path)
    assert (np.moveaxis(data.train.pixels, 1, -1) == x).all()
    assert (np.moveaxis(data.test.pixels, 1, -1) == x[1000:]).all()


def test_signs_are_windows_of_tracks_and_every_fifth_track_is_for_testing(tmp_path):
    write_signs(tmp_path / 'Final_Training' / 'Images', frames=17)
    train, test = load_signs(tmp_path)
    # Of 17 frames, windows of 15 begin at 3; of 2 classes, 4 tracks are for training.
    assert (train.labels == [0] * 12 + [1] * 12).all() and (test.labels == [0] * 3 + [1] * 3).all()
    shown = train.cut(np.array([13, 23]), 4)
    assert shown.shape == (2, 4, 3, 32, 32)
    red, green, blue = shown[:, :, :, 0, 0].transpose(2, 0, 1).astype(int)
    assert (red == 10).all()
    assert (green == [[0] * 4, [60] * 4]).all()
    assert (blue == [[5, 10, 15, 20], [10, 15, 20, 25]]).all()
    assert (test.cut(np.array([0]), 15)[0, :, 1] == 80).all()


def test_signs_are_read_from_an_archive(tmp_path):
    random = np.random.default_rng(1)
    track, frame = np.divmod(np.arange(75), 15)
    order = random.permutation(75)
    pixels = np.zeros((75, 32, 32, 3), np.uint8)
    pixels[..., 0], pixels[..., 2] = track[:, None, None], frame[:, None, None]
    np.savez(tmp_path / 'gtsrb.npz', x_train=pixels[order], y_train=np.zeros(75, np.uint8),
             track_train=track[order], frame_train=frame[order])
    train, test = load_signs(tmp_path)
    assert (train.cut(np.arange(4), 15)[:, :, 2, 0, 0] == np.arange(15)).all()
    assert (test.cut(np.array([0]), 3)[0, :, 0, 0, 0] == 4).all()


def said(load, path):
    with pytest.raises(DataError) as caught:
        load(path)
    return str(caught.value).replace(str(path), 'PATH')


def test_what_is_missing_is_named(tmp_path):
    assert said(load_mnist, tmp_path / 'no') == (
        'PATH: it does not exist; give --data the folder with the data')
    write_mnist(tmp_path)
    (tmp_path / f'{NAMES[1]}.gz').unlink()
    assert said(load_mnist, tmp_path) == (
        'PATH: there is no train-labels-idx1-ubyte.gz, nor an archive mnist.npz; give --data the '
        "folder with MNIST's four idx files")
    (tmp_path / 'data_batch_1').touch()
    assert said(load_cifar10, tmp_path) == (
        'PATH: there is no data_batch_1.bin, nor an archive cifar10*.npz; give --data the folder '
        'of the binary version (cifar-10-binary.tar.gz, unpacked). What is there is the Python '
        'version: pickles, which can run code, are not read')
    assert said(load_signs, tmp_path) == (
        'PATH: there are no class folders such as 00000 with pictures such as 00000_00000.ppm, '
        "nor an archive gtsrb*.npz; give --data the folder of GTSRB's official training images "
        '(Final_Training/Images)')


def test_damaged_files_are_refused(tmp_path):
    write_mnist(tmp_path)
    path = tmp_path / f'{NAMES[0]}.gz'
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    assert 'cannot be unpacked' in said(load_mnist, tmp_path)
    path.write_bytes(gzip.compress(idx(squares(3)[0])[:-1]))
    assert said(load_mnist, tmp_path) == (
        f'PATH/{NAMES[0]}.gz: 2351 values follow, but its header says 3 x 28 x 28; download it '
        'again')
    path.write_bytes(gzip.compress(b'<html>'))
    assert said(load_mnist, tmp_path) == (
        f'PATH/{NAMES[0]}.gz: it begins with 3c 68 74 6d, but an idx file of bytes with 00 00 '
        '08; download it again')
    path.write_bytes(gzip.compress(idx(squares(3)[0])))
    assert said(load_mnist, tmp_path) == 'PATH: 3 images, but 200 labels'


def test_archives_that_do_not_fit_are_refused(tmp_path):
    path = tmp_path / 'mnist.npz'
    np.savez(path, x_train=np.zeros(3))
    assert said(load_mnist, path) == "PATH: it has no array 'y_train'; it has x_train"
    np.savez(path, **{name: np.zeros((2, 8, 8), np.uint8) for name in (
        'x_train', 'y_train', 'x_test', 'y_test')})
    assert said(load_mnist, path) == (
        "PATH: x_train has uint8 of [2, 8, 8]; uint8 of ['N', 28, 28] is needed")
    np.savez(path, x_train=np.array([{}], object))
    assert 'cannot be read as a NumPy archive of plain arrays' in said(load_mnist, path)


def test_short_tracks_are_refused(tmp_path):
    assert said(load_signs, write_signs(tmp_path / 'images', frames=9)) == (
        'PATH: a track of class 0 has 9 frames; windows take up to 15. Use the official '
        'training images, whose tracks have 30')

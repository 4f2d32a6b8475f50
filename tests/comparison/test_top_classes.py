"""The names of ImageNet's classes."""

from keras_torch_convert.comparison.top_classes import class_name, imagenet_classes


def test_class_names_are_in_the_spelling_of_keras():
    known = {
        0: ("n01440764", "tench"), 134: ("n02012849", "crane"),
        165: ("n02089078", "black-and-tan_coonhound"), 285: ("n02124075", "Egyptian_cat"),
        477: ("n02966687", "carpenter's_kit"), 496: ("n03026506", "Christmas_stocking"), 517:
            ("n03126707", "crane"), 607: ("n03590841", "jack-o'-lantern"), 638:
                ("n03710637", "maillot"), 639: ("n03710721", "maillot"), 996:
                    ("n13052670", "hen-of-the-woods"), 999: ("n15075141", "toilet_tissue")
    }

    classes = imagenet_classes()

    assert {index: classes[index] for index in known} == known
    assert len({identifier for identifier, _ in classes}) == len(classes) == 1000
    assert len({name for _, name in classes}) == 998


def test_class_names_depend_on_the_number_of_classes():
    assert class_name(285, 1000) == "Egyptian_cat"
    assert [class_name(index, 1001) for index in (0, 286)] == ["background", "Egyptian_cat"]
    assert class_name(285, 21843) == ""

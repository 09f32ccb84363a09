"""scikit-learn's estimators as ONNX models, with and without ZipMap.

Each entry is a name with a function of no arguments that fits the estimator and
gives the model's bytes, and one that gives its cases, as in inputs.py.
"""

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR

F32 = np.float32
OPSET = {"": 17, "ai.onnx.ml": 3}
SPECIES = np.array(["setosa", "versicolor", "virginica"])


def iris():
    return load_iris().data.astype(F32)


def diabetes():
    return load_diabetes().data.astype(F32)


def converted(model, example, zipmap=None):
    from skl2onnx import to_onnx

    options = None if zipmap is None else {id(model): {"zipmap": zipmap}}
    return to_onnx(model, example, options=options, target_opset=OPSET).SerializeToString()


def classifier(make, labels, zipmap):
    """`labels` makes classes of the numbers 0, 1 and 2."""

    def data():
        model = make().fit(iris(), labels(load_iris().target))
        return converted(model, iris()[:1], zipmap)

    return data, lambda: [{"X": iris()[:1]}, {"X": iris()[::7]}]


def regressor(make):
    def data():
        model = make().fit(diabetes(), load_diabetes().target)
        return converted(model, diabetes()[:1])

    return data, lambda: [{"X": diabetes()[:1]}, {"X": diabetes()[::20]}]


# Names of columns, as they are the names of the model's inputs.
TEXT, NUMBERS = ["colour", "shape"], ["width", "height"]
ROWS = 60


def table():
    """Two columns of words and two of numbers, some of which are missing."""
    random = np.random.default_rng(0)
    columns = {
        "colour": random.choice(["red", "green", "blau", "grün"], ROWS),
        "shape": random.choice(["round", "square", ""], ROWS),
        "width": random.normal(size=ROWS).astype(F32),
        "height": random.normal(size=ROWS).astype(F32),
    }
    columns["width"][::9] = np.nan
    return columns


def fed(columns, rows):
    return {
        name: column[rows].astype(object if column.dtype.kind == "U" else F32)[:, None]
        for name, column in columns.items()
    }


def mixed_columns():
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType, StringTensorType

    columns = table()
    rows = np.array([list(row) for row in zip(*columns.values())], object)
    target = np.where(np.nan_to_num(columns["width"]) + (columns["colour"] == "red") > 0.3, "yes", "no")
    prepare = ColumnTransformer(
        [
            ("words", OneHotEncoder(handle_unknown="ignore"), [0, 1]),
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), [2, 3]),
        ]
    )
    model = make_pipeline(prepare, LogisticRegression()).fit(rows, target)
    types = [(name, StringTensorType([None, 1])) for name in TEXT]
    types += [(name, FloatTensorType([None, 1])) for name in NUMBERS]
    return to_onnx(model, initial_types=types, target_opset=OPSET).SerializeToString()


def mixed_cases():
    unknown = fed(table(), slice(1))
    unknown["colour"][0, 0] = "ultraviolet"
    return [unknown, fed(table(), slice(None, None, 5))]


NEWS = [
    "The team won the match in extra time",
    "A late goal decided the second match",
    "The bank raised its rates again",
    "Rates at the central bank stay where they are",
    "The coach left the team after the match, again",
    "Markets fell as the bank spoke of higher rates",
]


def texts():
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import StringTensorType

    vectorizer = TfidfVectorizer(ngram_range=(1, 2))
    model = make_pipeline(vectorizer, LogisticRegression())
    model.fit(NEWS, ["sport" if "match" in text else "money" for text in NEWS])
    # A locale that every machine has, where ONNX Runtime makes the answers.
    options = {id(vectorizer): {"locale": "C"}}
    types = [("text", StringTensorType([None, 1]))]
    made = to_onnx(model, initial_types=types, options=options, target_opset=OPSET)
    return made.SerializeToString()


def text_cases():
    asked = [NEWS[0], "Which bank has the best rates?", "A MATCH, at last", "?!"]
    array = lambda lines: {"text": np.array(lines, object)[:, None]}
    return [array(asked[:1]), array(asked)]


def named(target):
    return SPECIES[target]


def numbered(target):
    return target


def is_virginica(target):
    return (target == 2).astype(np.int64)


def models():
    svc = lambda: make_pipeline(StandardScaler(), SVC(probability=True, random_state=0))
    forest = lambda: RandomForestClassifier(30, random_state=0)
    boosting = lambda: GradientBoostingClassifier(n_estimators=20, random_state=0)
    network = lambda: MLPClassifier((16,), random_state=0, max_iter=2000)
    return {
        "skl_logistic": classifier(LogisticRegression, numbered, True),
        "skl_logistic_named": classifier(LogisticRegression, named, False),
        "skl_svc": classifier(svc, numbered, False),
        "skl_svc_named": classifier(svc, named, True),
        "skl_svr": regressor(lambda: make_pipeline(StandardScaler(), SVR())),
        "skl_forest": classifier(forest, numbered, False),
        "skl_forest_named": classifier(forest, named, True),
        "skl_forest_two": classifier(forest, is_virginica, False),
        "skl_forest_reg": regressor(lambda: RandomForestRegressor(30, random_state=0)),
        "skl_boosting": classifier(boosting, numbered, False),
        "skl_boosting_two": classifier(boosting, is_virginica, True),
        "skl_boosting_reg": regressor(lambda: GradientBoostingRegressor(random_state=0)),
        "skl_neighbors": classifier(lambda: KNeighborsClassifier(3), named, False),
        "skl_bayes": classifier(GaussianNB, numbered, True),
        "skl_network": classifier(network, named, True),
        "skl_columns": (mixed_columns, mixed_cases),
        "skl_texts": (texts, text_cases),
    }

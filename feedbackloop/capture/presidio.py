"""Names of people and places, found by Presidio with spaCy's pipelines.

References:
    https://github.com/microsoft/presidio, and https://spacy.io/models for pipelines.
"""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import (
    NerModelConfiguration,
    NlpEngine,
    NoOpNlpEngine,
    SpacyNlpEngine,
)
from spacy.util import is_package

from feedbackloop.capture.recognisers import Found


class PresidioRecogniser:
    """Finds entities of Presidio's, in every language at once: nobody says which one a text is in.

    A pipeline of spaCy's takes a million characters by default. It fails on longer texts, which are
    then withheld.

    Args:
        models: spaCy's pipeline of each language, by name or folder; an empty name for Presidio's
            patterns alone.
        entities: What is looked for, by Presidio's names.
        min_score: Least score of what is found, in [0, 1].

    Raises:
        ValueError: If a pipeline is not installed or names nothing, or if nothing finds an entity.
    """

    def __init__(
        self, models: Mapping[str, str], *, entities: Collection[str], min_score: float
    ) -> None:
        self.kinds = frozenset(entities)
        self._min_score = min_score
        self._engines = {language: _engine(language, name) for language, name in models.items()}
        known = {
            language: set(engine.get_supported_entities(language))
            for language, engine in self._engines.items()
        }
        self._entities = {language: sorted(known[language] & self.kinds) for language in known}
        all_known = set().union(*known.values())
        for unknown in sorted(self.kinds - all_known):
            some = ", ".join(sorted(all_known))
            raise ValueError(f"nothing finds {unknown}; expected some of {some}")

    def find(self, text: str) -> Iterator[Found]:
        """Say what stands where; finds may overlap."""
        for language, entities in self._entities.items():
            if entities:
                for one in self._engines[language].analyze(
                    text, language, entities=entities, score_threshold=self._min_score
                ):
                    yield Found(one.start, one.end, one.entity_type)


def _engine(language: str, name: str) -> AnalyzerEngine:
    nlp = _pipeline(language, name) if name else _none(language)
    registry = RecognizerRegistry(supported_languages=[language])
    registry.load_predefined_recognizers(languages=[language], nlp_engine=nlp)
    # It asks the internet for the list of public suffixes; ours finds addresses without.
    registry.remove_recognizer("EmailRecognizer")
    return AnalyzerEngine(registry=registry, nlp_engine=nlp, supported_languages=[language])


def _pipeline(language: str, name: str) -> NlpEngine:
    if not is_package(name) and not Path(name).is_dir():
        # Presidio would download it.
        raise ValueError(f"no spaCy pipeline {name} is installed")
    engine = SpacyNlpEngine([{"lang_code": language, "model_name": name}])
    engine.load()
    labels = engine.nlp[language].pipe_labels.get("ner", [])
    words = NerModelConfiguration().model_to_presidio_entity_mapping
    named = {label: words[label] for label in labels if label in words}
    if not named:
        raise ValueError(f"the spaCy pipeline {name} names no entities")
    # Else it promises entities that this pipeline never names, and warns of labels without a word.
    engine.ner_model_configuration = NerModelConfiguration(
        labels_to_ignore=[label for label in labels if label not in words],
        model_to_presidio_entity_mapping=named,
    )
    return engine


def _none(language: str) -> NlpEngine:
    engine = NoOpNlpEngine([{"lang_code": language, "model_name": ""}])
    engine.load()
    return engine

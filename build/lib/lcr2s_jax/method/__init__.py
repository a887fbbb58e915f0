"""The paper: fusion, losses and the stages that are trained."""
